/**
 * Keeps template, index, mapping and alias as this agent needs them: what is missing is made, what was changed is put
 * back and logged. Agents of all nodes do so at once; each step may find that another agent was first. What isn't
 * permitted is logged once, and events are sent all the same.
 */
import type { Logger } from 'pino';
import { get, reasonOf } from './classify.ts';
import {
  differences,
  indexBody,
  TEMPLATE_VERSION,
  templateBody,
  templateDifferences,
  type IndexNames,
} from './template.ts';

export interface Answer {
  status: number;
  body: unknown;
}

export type Method = 'GET' | 'PUT' | 'POST';

/** Answers 400, 403 and 404 too. @throws SendError for all else. */
export type Ask = (method: Method, path: string, body?: object) => Promise<Answer>;

type Log = Pick<Logger, 'info' | 'warn'>;

interface State {
  readonly names: IndexNames;
  readonly log: Log;
  /** What was said of a step and has not mended since. */
  readonly lastStates: Map<string, string>;
}

/** @returns one round; it throws only what `ask` throws. */
export function createManager(names: IndexNames, log: Log): (ask: Ask) => Promise<void> {
  const state: State = { names, log, lastStates: new Map() };
  return async (ask) => {
    await keepTemplate(state, ask);
    await keepIndex(state, ask);
  };
}

async function keepTemplate(state: State, ask: Ask): Promise<void> {
  const { names, log } = state;
  const path = `/_index_template/${names.template}`;
  const answer = await ask('GET', path);
  if (answer.status !== 404 && failed(state, 'look at index template', names.template, answer)) return;
  const list = get(answer.body, 'index_templates');
  const template = Array.isArray(list) ? get(list[0], 'index_template') : undefined;
  const version = Number(get(get(template, '_meta'), 'template_version'));
  if (version > TEMPLATE_VERSION) {
    return once(state, 'template version', `${version}`, () =>
      log.info({ template: names.template, version }, "index template is a newer agent's: left as it is"),
    );
  }
  const wanted = templateBody(names);
  const changed = template === undefined ? [] : templateDifferences(wanted, template);
  if (template !== undefined && changed.length === 0) return;
  if (failed(state, 'write index template', names.template, await ask('PUT', path, wanted))) return;
  if (template === undefined) log.info({ template: names.template }, 'index template is made');
  else log.warn({ template: names.template, changed: few(changed) }, 'index template was changed: put back');
}

async function keepIndex(state: State, ask: Ask): Promise<void> {
  const { names, log } = state;
  const { alias } = names;
  const wanted = indexBody(names);
  let answer = await ask('GET', `/${names.index}`);
  if (answer.status === 404) {
    const made = await ask('PUT', `/${names.index}`, wanted);
    const there = get(get(made.body, 'error'), 'type') === 'resource_already_exists_exception';
    if (!there) {
      if (failed(state, 'make index', names.index, made)) return;
      log.info({ index: names.index, ...(alias === undefined ? {} : { alias }) }, 'index is made');
      return;
    }
    answer = await ask('GET', `/${names.index}`);
  }
  if (failed(state, 'look at index', names.index, answer)) return;
  // Where the name is an alias itself, the indices behind it.
  for (const [index, actual] of Object.entries(answer.body ?? {})) {
    await keepMapping(state, ask, index, wanted.mappings, get(actual, 'mappings'));
    if (alias === undefined || get(get(actual, 'aliases'), alias) !== undefined) continue;
    if (failed(state, 'add alias to', index, await ask('PUT', `/${index}/_alias/${alias}`))) continue;
    log.warn({ index, alias }, 'alias was missing: put back');
  }
}

async function keepMapping(state: State, ask: Ask, index: string, wanted: object, actual: unknown): Promise<void> {
  const { log } = state;
  const changed = differences(wanted, actual, false);
  if (changed.length === 0) return;
  const answer = await ask('PUT', `/${index}/_mapping`, wanted);
  if (answer.status === 400) {
    return once(state, `mapping of ${index}`, few(changed).join(), () =>
      log.warn(
        { index, changed: few(changed), reason: reasonOf(get(answer.body, 'error')) },
        "the index maps fields otherwise than events need, which can't be changed in place: some searches won't find events. " +
          'To mend it, copy the index by _reindex, delete it (it is made again as it should be), and copy it back',
      ),
    );
  }
  if (failed(state, 'change mapping of', index, answer)) return;
  log.warn({ index, changed: few(changed) }, 'mapping was changed: put back');
}

function failed(state: State, step: string, what: string, { status, body }: Answer): boolean {
  const { log, lastStates } = state;
  const key = `${step} ${what}`;
  if (status < 300) {
    lastStates.delete(key);
    return false;
  }
  const reason = reasonOf(get(body, 'error'));
  once(state, key, String(status), () =>
    log.warn(
      { status, reason },
      `${status === 403 ? 'not permitted to' : "can't"} ${step} ${what}: events are sent all the same. ` +
        "Give the user that right, or set the sink's manageTemplate to false",
    ),
  );
  return true;
}

/** Logs it unless the last state that was logged of it is the same. */
function once({ lastStates }: State, key: string, next: string, logState: () => void): void {
  if (lastStates.get(key) === next) return;
  lastStates.set(key, next);
  logState();
}

function few(paths: readonly string[]): string[] {
  return paths.length <= 10 ? [...paths] : [...paths.slice(0, 10), `and ${paths.length - 10} more`];
}
