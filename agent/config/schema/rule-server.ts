/** `ruleServer`, of agents, and `ruleServing`, of the server that they follow. */
import * as z from 'zod';
import { about, bytes, millis, text } from '../leaves.ts';
import { ALWAYS, caFile, checkCertificate, SERVER_URL, serverUrl, tokenServer } from './common.ts';

export const RULE_SERVER_AUDIENCE = 'dpi-agent-rule-server';

export const ruleServer = z.strictObject({
  url: about(
    serverUrl.optional(),
    SERVER_URL,
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
    ...tokenServer({ command: 'dpi-agent rules serve', port: 9099, audience: RULE_SERVER_AUDIENCE }),
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
