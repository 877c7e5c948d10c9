/**
 * Keeps template, index or data stream, mapping, alias and policy as this agent needs them: what is missing is made, what
 * was changed is put back and logged. Agents of all nodes do so at once; each step may find that another agent was first. What isn't
 * permitted is logged once, and events are sent all the same.
 */
import type { Logger } from 'pino';
import { SendError } from '../destination.ts';
import { get, reasonOf } from './classify.ts';
import { hasPolicy, POLICY_KINDS, type Lifecycle } from './policy.ts';
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

/** Answers 400, 403, 404 and 405 too. @throws SendError for all else. */
export type Ask = (method: Method, path: string, body?: object) => Promise<Answer>;

type Log = Pick<Logger, 'info' | 'warn'>;

/** Of a data stream. */
export interface StreamOptions {
  store: 'elasticsearch' | 'opensearch';
  lifecycle: Lifecycle;
}

interface State {
  readonly names: IndexNames;
  readonly stream: StreamOptions | undefined;
  readonly log: Log;
  /** What was said of a step and has not mended since. */
  readonly lastStates: Map<string, string>;
}

/** @returns one round; it throws what `ask` throws, and SendError where no event would get through. */
export function createManager(names: IndexNames, log: Log, stream?: StreamOptions): (ask: Ask) => Promise<void> {
  const state: State = { names, log, stream, lastStates: new Map() };
  return async (ask) => {
    const policy = await keepPolicy(state, ask);
    await keepTemplate(state, ask, policy === undefined ? {} : policy.settings);
    if (names.isStream === true) await keepStream(state, ask);
    await keepIndex(state, ask, policy);
  };
}

/** Of the indices of a data stream. */
interface Policy {
  settings: object;
  /** Gives it to those that are there. */
  attach?: () => Promise<void>;
}

/** @returns undefined where none is wanted, or to be had. */
async function keepPolicy(state: State, ask: Ask): Promise<Policy | undefined> {
  const { names, stream, log } = state;
  if (stream === undefined || !hasPolicy(stream.lifecycle)) return undefined;
  const kind = POLICY_KINDS[stream.store];
  const path = kind.path(names.template);
  const sayNone = (): void =>
    once(state, 'policy', 'none', () =>
      log.warn(
        `the cluster has no ${kind.feature}: the data stream ${names.index} neither rolls over nor loses old events`,
      ),
    );
  const { status, body } = await ask('GET', path);
  if (status === 400 || status === 405) {
    sayNone();
    return undefined;
  }
  const settings = kind.settings(names.template);
  // Somebody else may keep it.
  if (status !== 404 && failed(state, 'look at policy', names.template, { status, body })) return { settings };
  const wanted = kind.body(stream.lifecycle, names.index);
  if (status !== 404 && !kind.differs(wanted, body, names.template)) return { settings };
  const written = await ask('PUT', status === 404 ? path : kind.overwrite(path, body), wanted);
  // Elasticsearch 7 takes a path that it does not know for that of a document.
  if (get(get(written.body, 'error'), 'type') === 'invalid_index_name_exception') {
    sayNone();
    return undefined;
  }
  if (failed(state, 'write policy', names.template, written)) return status === 404 ? undefined : { settings };
  if (status === 404) log.info({ policy: names.template }, 'policy is made');
  else log.warn({ policy: names.template }, 'policy was changed: put back');
  const attached = kind.attach?.(names.template, names.index);
  if (attached === undefined) return { settings };
  return {
    settings,
    attach: async () =>
      void failed(state, 'give the policy to', names.index, await ask('POST', attached.path, attached.body)),
  };
}

async function keepTemplate(state: State, ask: Ask, further: object): Promise<void> {
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
  const wanted = templateBody(names, further);
  const changed = template === undefined ? [] : templateDifferences(wanted, template);
  if (template !== undefined && changed.length === 0) return;
  if (failed(state, 'write index template', names.template, await ask('PUT', path, wanted))) return;
  if (template === undefined) log.info({ template: names.template }, 'index template is made');
  else log.warn({ template: names.template, changed: few(changed) }, 'index template was changed: put back');
}

/** @throws SendError where the cluster has none: an index made by the first event would map its texts. */
async function keepStream(state: State, ask: Ask): Promise<void> {
  const { names, log } = state;
  const path = `/_data_stream/${names.index}`;
  const answer = await ask('GET', path);
  if (answer.status === 400 || answer.status === 405) {
    throw new SendError(
      'server_error',
      `the cluster has no data streams (${answer.status}): set the sink's dataStream to false`,
    );
  }
  if (answer.status !== 404 && failed(state, 'look at data stream', names.index, answer)) return;
  // OpenSearch answers with an empty list where an index has the name.
  if (get(get(answer.body, 'data_streams'), '0') !== undefined) return;
  if ((await ask('GET', `/${names.index}`)).status === 200) {
    return once(state, 'in the way', names.index, () =>
      log.warn(
        { index: names.index },
        'an index has the name of the data stream: events go into it. To have a stream, copy the index by _reindex, and delete it',
      ),
    );
  }
  const made = await ask('PUT', path);
  if (get(get(made.body, 'error'), 'type') === 'resource_already_exists_exception') return;
  if (failed(state, 'make data stream', names.index, made)) return;
  log.info({ stream: names.index }, 'data stream is made');
}

async function keepIndex(state: State, ask: Ask, policy: Policy | undefined): Promise<void> {
  const { names, log } = state;
  const { alias, isStream = false } = names;
  const wanted = indexBody(names);
  let answer = await ask('GET', `/${names.index}`);
  if (answer.status === 404 && !isStream) {
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
  await policy?.attach?.();
  // Where the name is an alias itself, or a data stream, the indices behind it.
  for (const [index, actual] of Object.entries(answer.body ?? {})) {
    const ofStream = get(actual, 'data_stream') !== undefined;
    if (ofStream && !isStream) {
      throw new SendError(
        'server_error',
        `${names.index} is a data stream: set the sink's dataStream to true, or delete it`,
      );
    }
    await keepMapping(state, ask, index, wanted.mappings, get(actual, 'mappings'));
    if (ofStream) await keepSettings(state, ask, index, policy?.settings ?? {}, get(actual, 'settings'));
    // That of a data stream comes with its template.
    if (ofStream || alias === undefined || get(get(actual, 'aliases'), alias) !== undefined) continue;
    if (failed(state, 'add alias to', index, await ask('PUT', `/${index}/_alias/${alias}`))) continue;
    log.warn({ index, alias }, 'alias was missing: put back');
  }
}

/** Those of the policy: the template has them for the next index only. */
async function keepSettings(state: State, ask: Ask, index: string, wanted: object, actual: unknown): Promise<void> {
  if (Object.keys(wanted).length === 0) return;
  if (differences({ settings: { index: wanted } }, { settings: actual }, false).length === 0) return;
  const answer = await ask('PUT', `/${index}/_settings`, { index: wanted });
  if (failed(state, 'change settings of', index, answer)) return;
  state.log.info({ index }, 'index has the policy');
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
