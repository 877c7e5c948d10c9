/** What `check` and `doctor` find of the rule server: reachable, its certificate, the token; and what it says. */
import * as z from 'zod';
import type { Config } from '../config/load.ts';
import { messageOf } from '../files/errors.ts';
import { readManifest } from '../rulesets/rule-server-client.ts';
import { shortReason } from '../rulesets/served.ts';
import type { Finding } from './finding.ts';
import { plural } from './print.ts';
import { serverOf } from './rule-sources.ts';

const SUBJECT = 'rule server';
const ASK_MILLIS = 8_000;
const REMEDY = 'docs/rule-server.md says what each answer means';

const text = z.string().transform(shortReason);
/** As much of the manifest as is told here. */
const told = z.object({
  sets: z
    .array(
      z.object({
        set: text,
        target: z.object({ version: text, state: text, node: text.optional(), reason: text.optional() }),
      }),
    )
    .max(64),
});

export async function checkRuleServer(config: Pick<Config, 'ruleServer' | 'ruleSets'>): Promise<Finding[]> {
  const server = serverOf(config);
  if (server === undefined) return [];
  try {
    const { sets } = await readManifest(server, told, AbortSignal.timeout(ASK_MILLIS));
    return [
      {
        level: 'ok',
        subject: SUBJECT,
        message: `${server.url} answers, and takes the token: ${plural(sets.length, 'set')}`,
      },
      ...sets.flatMap(stoppedSet),
      ...unserved(config.ruleSets, sets),
    ];
  } catch (error) {
    return [{ level: 'error', subject: SUBJECT, message: messageOf(error), remedy: REMEDY }];
  }
}

function stoppedSet({
  set,
  target: { version, state, node, reason },
}: z.infer<typeof told>['sets'][number]): Finding[] {
  if (state !== 'stopped') return [];
  const where = node === undefined ? '' : ` on node ${node}`;
  const message = `set ${set}: version ${version} is stopped, as it did not inspect${where}: ${reason ?? 'unknown'}`;
  const remedy = 'mend it where it comes from; until another version is there, nodes keep the one before';
  return [{ level: 'warning', subject: SUBJECT, message, remedy }];
}

/** Of the sets that resources get by default, those that are not on this machine may be meant to come from there. */
function unserved(wanted: readonly string[], sets: z.infer<typeof told>['sets']): Finding[] {
  const served = new Set(sets.map(({ set }) => set));
  const missing = wanted.filter((set) => !served.has(set) && set !== 'kubernetes');
  if (missing.length === 0) return [];
  return [{ level: 'info', subject: SUBJECT, message: `it does not serve ${missing.join(', ')} of ruleSets` }];
}
