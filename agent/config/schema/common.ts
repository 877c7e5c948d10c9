/** What several parts of the schema share. */
import { isIP } from 'node:net';
import * as z from 'zod';
import { about, integer, list, qualified, text } from '../leaves.ts';

/** A rule between keys holds even while a neighbour is wrong, so that all errors come at once. */
export const ALWAYS = { when: () => true };

/** The name of a rule set, which is a folder's. */
export const setName = () => z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);

/** The name of a cluster: a part of an index's name. */
export const clusterName = () => z.string().regex(/^[a-z0-9][a-z0-9._-]{0,99}$/);

export const httpUrl = z.string().refine((value) => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol));

const HOST_AND_PORT = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253}):([1-9]\d{0,4})$/;

export const hostAndPort = () =>
  z.string().refine((value) => Number(HOST_AND_PORT.exec(value)?.[2] ?? Infinity) < 65_536);

export const caFile = about(
  text().optional(),
  'a path',
  'PEM file of the authorities that are trusted, instead of those that Node.js knows; read again when it changes.',
);

/** Where an agent finds one of the cluster's own servers, to whom it shows its token. */
export const serverUrl = httpUrl.refine((value) => {
  const { username, password, search, hash } = new URL(value);
  return !isInClear(value) && username + password + search + hash === '';
});

/** What `serverUrl` expects, in words. */
export const SERVER_URL = 'a URL with https (http on this machine only), without user, password and parameters';

/** Of a server that the cluster's tokens let into: where it listens, and whose tokens it takes. */
export function tokenServer(of: { command: string; port: number; audience: string }) {
  return {
    address: about(
      z
        .string()
        .refine((address) => isIP(address) !== 0)
        .prefault('127.0.0.1'),
      'an IPv4 or IPv6 address',
      `The address that ${of.command} listens on; other than loopback only with TLS.`,
    ),
    port: about(integer(0, 65_535).prefault(of.port), 'an integer from 0 to 65535', 'Its port; 0 takes a free one.'),
    tlsCertFile: about(
      text().optional(),
      'a path',
      'PEM file of its certificate, with its chain; read again when it changes.',
    ),
    tlsKeyFile: about(text().optional(), 'a path', 'PEM file of its key.'),
    audience: about(
      z
        .string()
        .regex(/^[\x21-\x7e]{1,253}$/)
        .prefault(of.audience),
      'a text without blanks',
      "The audience that agents' tokens must be for.",
    ),
    serviceAccounts: about(
      list(qualified()).prefault(['tigera-dpi/tigera-dpi']),
      'a list of <namespace>/<name>',
      "The agents' service accounts: whose tokens are taken.",
    ),
  };
}

/** A server's certificate and its key. */
export function checkCertificate(
  { tlsCertFile, tlsKeyFile }: { tlsCertFile?: unknown; tlsKeyFile?: unknown },
  context: z.RefinementCtx,
): void {
  if ((tlsCertFile === undefined) === (tlsKeyFile === undefined)) return;
  context.addIssue({
    code: 'custom',
    path: [tlsCertFile === undefined ? 'tlsCertFile' : 'tlsKeyFile'],
    message: 'expected both tlsCertFile and tlsKeyFile, or neither',
  });
}

/** What others on the way could read. */
export function isInClear(url: string | undefined): boolean {
  if (url === undefined || !URL.canParse(url)) return false;
  const { protocol, hostname } = new URL(url);
  const isLoopback =
    hostname === 'localhost' || hostname === '[::1]' || (isIP(hostname) === 4 && hostname.startsWith('127.'));
  return protocol !== 'https:' && !isLoopback;
}

/** `params.other` lets the loader say where the first of the two stands. */
export function repeated(
  context: z.RefinementCtx,
  index: number,
  key: string,
  other: [list: string, index: number],
  what = `the ${key}`,
): void {
  const message = `${what} is taken by ${other[0]}[${other[1]}]`;
  context.addIssue({ code: 'custom', path: [index, key], params: { other }, message });
}
