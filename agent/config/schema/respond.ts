/** `respond`, of agents and the Alerts page, and `respondServing`, of what isolates pods for them. */
import * as z from 'zod';
import { about, boolean, integer, label, list, millis, text } from '../leaves.ts';
import { ALWAYS, caFile, checkCertificate, SERVER_URL, serverUrl, tokenServer } from './common.ts';

export const RESPOND_AUDIENCE = 'dpi-agent-response';

export const respond = z.strictObject({
  url: about(
    serverUrl.optional(),
    SERVER_URL,
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
    ...tokenServer({ command: 'dpi-agent respond serve', port: 9100, audience: RESPOND_AUDIENCE }),
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
