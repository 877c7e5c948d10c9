/** `respond`, of agents and the Alerts page, and `respondServing`, of what isolates pods for them. */
import { isIP } from 'node:net';
import * as z from 'zod';
import { about, boolean, integer, label, list, millis, qualified, text } from '../leaves.ts';
import { ALWAYS, caFile, checkCertificate, httpUrl, isInClear } from './common.ts';

export const RESPOND_AUDIENCE = 'dpi-agent-response';

export const respond = z.strictObject({
  url: about(
    httpUrl
      .refine((value) => {
        const { username, password, search, hash } = new URL(value);
        return !isInClear(value) && username + password + search + hash === '';
      })
      .optional(),
    'a URL with https (http on this machine only), without user, password and parameters',
    'Who isolates pods for agents and the Alerts page (docs/response.md), such as https://dpi-agent-response.tigera-dpi.svc; none by default.',
  ),
  caFile,
  tokenFile: about(
    text().prefault('/var/run/secrets/dpi-agent/response/token'),
    'a path',
    "File with the agent's token for the server's audience; read at each use.",
  ),
});

export const respondServing = z
  .strictObject({
    address: about(
      z
        .string()
        .refine((address) => isIP(address) !== 0)
        .prefault('127.0.0.1'),
      'an IPv4 or IPv6 address',
      'The address that dpi-agent respond serve listens on; other than loopback only with TLS.',
    ),
    port: about(integer(0, 65_535).prefault(9100), 'an integer from 0 to 65535', 'Its port; 0 takes a free one.'),
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
        .prefault(RESPOND_AUDIENCE),
      'a text without blanks',
      "The audience that agents' tokens must be for.",
    ),
    serviceAccounts: about(
      list(qualified()).prefault(['tigera-dpi/tigera-dpi']),
      'a list of <namespace>/<name>',
      "The agents' service accounts: whose wishes are looked at.",
    ),
    protectedNamespaces: about(
      list(label()).prefault(['tigera-dpi']),
      'a list of namespaces',
      'Namespaces whose pods are never isolated, beside kube-system and its like.',
    ),
    automatic: about(
      boolean().prefault(false),
      'true or false',
      'Whether entries of the policy of alerts isolate pods; false says what they would isolate.',
    ),
    automaticPods: about(
      list(z.string().regex(/^[a-z0-9.*-]{1,63}\/[a-z0-9.*-]{1,253}$/)).prefault([]),
      'a list of <namespace>/<name>, with * for any characters',
      'Pods that entries of the policy may isolate; none by default.',
    ),
    automaticPerHour: about(
      integer(1, 1_000).prefault(3),
      'an integer from 1 to 1000',
      'Most pods that entries of the policy isolate within an hour, in the whole cluster.',
    ),
    automaticAtOnce: about(
      integer(1, 1_000).prefault(5),
      'an integer from 1 to 1000',
      'Most pods that are isolated by entries of the policy at the same time.',
    ),
    maxFor: about(
      millis(60_000, 30 * 86_400_000).prefault('24h'),
      'a time from 1m to 30d, such as 24h',
      'Longest time for which a pod is isolated; then it is released.',
    ),
  })
  .superRefine(checkCertificate, ALWAYS);
