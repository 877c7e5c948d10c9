/** Whether an engine takes a version of a rule set, before it goes live. */
import type { Config } from '../../config/load.ts';
import type { EngineInstall } from '../../engine/engine.ts';
import { planSandbox } from '../../engine/sandbox.ts';
import { messageOf } from '../../files/errors.ts';
import { findRuleFiles } from '../../rulesets/files.ts';
import { loadWithChanges } from '../../rulesets/open.ts';
import { RefusedError } from '../../rulesets/update.ts';
import { grouped, plural } from '../print.ts';
import { createDriver, place } from '../setup.ts';
import { tryRules } from '../try-rules.ts';
import { TITLES } from './common.ts';

/** Refused rules that are listed; the rest is counted. */
const MAX_REFUSED_LISTED = 10;

/**
 * It does not where the engine can load nothing of it, also for what its rules name, or refuses more than a tenth.
 * @returns what the operator should know of it. @throws RefusedError
 */
export async function checkVersion(
  configuration: Config,
  install: EngineInstall,
  set: string,
  directory: string,
): Promise<string[]> {
  const paths = await findRuleFiles(directory);
  const files = paths.map((path) => ({ path, syntax: 'either' as const, root: directory }));
  const loaded = await loadWithChanges(configuration, install, [{ name: set, files }]);
  const sandbox = await planSandbox(String(configuration.engine.user), configuration.engine.isolateNetwork);
  const driver = createDriver(configuration, install);
  const title = `${TITLES[install.name]} ${install.version}`;
  const tried = await tryRules(configuration, { install, driver, sandbox }, loaded.index, [set]).catch(
    (error: unknown) => {
      throw new RefusedError(`${title} does not load it: ${messageOf(error)}`);
    },
  );
  const [unclear] = tried.refused;
  if (unclear !== undefined) throw new RefusedError(`${title} does not load it: ${unclear.what}: ${unclear.reason}`);
  const shorter = (file: string): string => file.slice(directory.length + 1);
  const [unusable] = loaded.refused;
  if (loaded.index.size === 0 && unusable !== undefined)
    throw new RefusedError(`none of its rules can be loaded: ${shorter(place(unusable))}: ${unusable.reason}`);
  const refused = tried.failed.filter(({ skipped }) => !skipped);
  const skipped = tried.failed.length - refused.length;
  const list = refused
    .slice(0, MAX_REFUSED_LISTED)
    .map(({ file, line, reason }) => `${title} refuses ${place({ file: shorter(file), line })}: ${reason}`);
  if (refused.length > list.length) list.push(`${title} refuses ${grouped(refused.length)} in all`);
  if (refused.length * 10 > loaded.index.size) {
    throw new RefusedError(
      [
        `${title} refuses ${grouped(refused.length)} of ${grouped(loaded.index.size)} rules: it stays as it was`,
        ...list,
      ].join('\n'),
    );
  }
  if (skipped > 0)
    list.push(
      `${title} skips ${plural(skipped, 'rule')} for what ${skipped === 1 ? 'it requires' : 'they require'}: rules check names them`,
    );
  return list;
}
