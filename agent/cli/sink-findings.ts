/** What `check` finds of sinks, without asking a destination: their files, templates and what they wait for in vain. */
import type { Config } from '../config/load.ts';
import { nearest } from '../config/nearest.ts';
import { sinkEntries, type SinkEntry } from '../config/sinks.ts';
import { TACTICS } from '../events/tactics.ts';
import { messageOf } from '../files/errors.ts';
import { createCredentialFiles } from '../ship/elasticsearch/credentials.ts';
import { watchSecrets } from '../ship/http/secrets.ts';
import { watchSecrets as watchKafkaSecrets } from '../ship/kafka/secrets.ts';
import { readAuthorities } from '../ship/secret-files.ts';
import { tacticName } from '../ship/when.ts';
import type { Finding } from './finding.ts';
import { plural } from './print.ts';

const SUBJECT = 'sinks';

export async function checkSinks(sinks: Config['sinks']): Promise<Finding[]> {
  const entries = sinkEntries(sinks);
  if (entries.length === 0) return [];
  const wrong: Finding[] = [];
  for (const entry of entries) wrong.push(...(await checkFiles(entry)), ...unknownTactics(entry));
  if (wrong.length > 0) return wrong;
  const message = `${plural(entries.length, 'sink')}; dpi-agent sinks test NAME sends one of them a sample`;
  return [{ level: 'ok', subject: SUBJECT, message }];
}

/** The agent waits for them too: they may come, and be mended, while it runs. */
async function checkFiles(entry: SinkEntry): Promise<Finding[]> {
  try {
    await readFiles(entry);
    return [];
  } catch (error) {
    const message = `${entry.name}: ${messageOf(error)}`;
    return [{ level: 'error', subject: SUBJECT, message, remedy: 'until then its events wait in the journal' }];
  }
}

/** @throws Error that says what is wrong with one. */
async function readFiles({ kind, settings }: SinkEntry): Promise<void> {
  switch (kind) {
    case 'http':
      return checkTemplate((await watchSecrets(settings).read()).template);
    case 'kafka':
      return void (await watchKafkaSecrets(settings).read());
    case 'elasticsearch':
    case 'opensearch':
      return void (await createCredentialFiles(settings).read());
    case 'syslog':
      return void (settings.caFile === undefined || (await readAuthorities(settings.caFile)));
    case 'stdout':
      return undefined;
  }
}

async function checkTemplate(template: string | undefined): Promise<void> {
  if (template === undefined) return;
  const { parseTemplate } = await import('../ship/formats/template.ts');
  try {
    parseTemplate(template);
  } catch (error) {
    throw new Error(`the template is wrong: ${messageOf(error)}`, { cause: error });
  }
}

/** Rules may name tactics of their own; most often it is a typing mistake, and the sink takes nothing. */
function unknownTactics({ name, when }: SinkEntry): Finding[] {
  const names = Object.values(TACTICS);
  const known = new Set(names.map(tacticName));
  return (when?.tactic ?? [])
    .filter((tactic) => !known.has(tacticName(tactic)))
    .map((tactic) => {
      const near = nearest(tactic, [...names, ...Object.keys(TACTICS)]);
      const message = `${name}: when.tactic: ${JSON.stringify(tactic)} is no tactic of MITRE ATT&CK for enterprises: only events whose rules say just that are taken`;
      return { level: 'warning', subject: SUBJECT, message, ...(near ? { remedy: `did you mean ${near}?` } : {}) };
    });
}
