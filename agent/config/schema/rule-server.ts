/** `ruleServer`, of agents, and `ruleServing`, of the server that they follow. */
import { isIP } from 'node:net';
import * as z from 'zod';
import { about, bytes, integer, list, millis, qualified, text } from '../leaves.ts';
import { ALWAYS, caFile, checkCertificate, httpUrl, isInClear } from './common.ts';

export const RULE_SERVER_AUDIENCE = 'dpi-agent-rule-server';

export const ruleServer = z.strictObject({
  url: about(
    httpUrl
      .refine((value) => {
        const { username, password, search, hash } = new URL(value);
        return !isInClear(value) && username + password + search + hash === '';
      })
      .optional(),
    'a URL with https (http on this machine only), without user, password and parameters',
    'The rule server that the agent follows (docs/rule-server.md), such as https://dpi-agent-rule-server.tigera-dpi.svc; none by default.',
  ),
  caFile,
  tokenFile: about(
    text().prefault('/var/run/secrets/dpi-agent/rule-server/token'),
    'a path',
    "File with the pod's token for the server's audience; read at each use.",
  ),
  every: about(
    millis(1_000, 86_400_000).prefault('1m'),
    'a time from 1s to 1d, such as 1m',
    'How often the server is asked; up to a tenth later.',
  ),
  maxBytes: about(
    bytes('1KiB', '1GiB').prefault('64MiB'),
    'a size from 1KiB to 1GiB, such as 64MiB',
    'Most that a version may have, as it is downloaded.',
  ),
  timeout: about(
    millis(1_000, 3_600_000).prefault('5m'),
    'a time from 1s to 1h, such as 5m',
    'Most that its download may take.',
  ),
});

export const ruleServing = z
  .strictObject({
    address: about(
      z
        .string()
        .refine((address) => isIP(address) !== 0)
        .prefault('127.0.0.1'),
      'an IPv4 or IPv6 address',
      'The address that dpi-agent rules serve listens on; other than loopback only with TLS.',
    ),
    port: about(integer(0, 65_535).prefault(9099), 'an integer from 0 to 65535', 'Its port; 0 takes a free one.'),
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
        .prefault(RULE_SERVER_AUDIENCE),
      'a text without blanks',
      'The audience that tokens must be for.',
    ),
    serviceAccounts: about(
      list(qualified()).prefault(['tigera-dpi/tigera-dpi']),
      'a list of <namespace>/<name>',
      "The agents' service accounts: whose tokens are taken.",
    ),
    directory: about(
      text().optional(),
      'a path',
      'Folder for the versions that it serves; by default rule-server in stateDirectory.',
    ),
    leaseMillis: about(
      millis(1_000, 86_400_000).prefault('10m'),
      'a time from 1s to 1d, such as 10m',
      'How long the first node may take to prove a version, before another one does.',
    ),
  })
  .superRefine(checkCertificate, ALWAYS);
