/** What several parts of the schema share. */
import { isIP } from 'node:net';
import * as z from 'zod';
import { about, text } from '../leaves.ts';

/** A rule between keys holds even while a neighbour is wrong, so that all errors come at once. */
export const ALWAYS = { when: () => true };

/** The name of a rule set, which is a folder's. */
export const setName = () => z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);

/** The name of a cluster: a part of an index's name. */
export const clusterName = () => z.string().regex(/^[a-z0-9][a-z0-9._-]{0,99}$/);

export const httpUrl = z.string().refine((value) => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol));

export const caFile = about(
  text().optional(),
  'a path',
  'PEM file of the authorities that are trusted, instead of those that Node.js knows; read again when it changes.',
);

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
