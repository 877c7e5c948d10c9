/**
 * Follows the configuration's file while the agent runs. What can be taken over is; what needs a restart is said in
 * the log, the status and the conditions until there is one, or the file says otherwise. A file with an error changes
 * nothing, and its errors are said, with file, line and column.
 *
 * A file counts as changed when it is another one, or was changed, also where a mounted ConfigMap swaps the link to its
 * folder; and once it stays the same from one look to the next, as an editor may be writing it. One change is taken
 * over after the other; of several that come meanwhile, the last.
 *
 * Not promised: that a file which was half written for some seconds, and is right as far as it goes, is not taken over.
 */
import { statSync } from 'node:fs';
import type { Logger } from 'pino';
import { changedKeys, takeOver, waitingKeys } from '../../config/changes.ts';
import type { Config, ConfigError } from '../../config/load.ts';
import type { FollowedCapture } from '../../endpoints/follow/parts.ts';
import { systemClock, type SinkClock } from '../../ship/clock.ts';
import { messageOf } from '../../files/errors.ts';
import type { ConfigStatus } from '../../observe/snapshot.ts';

const LOOK_MILLIS = 2_000;
const MAX_ERRORS = 20;
/** Of a condition. */
const MAX_NAMED = 5;

export interface ReloadOptions {
  file: string;
  /** What the agent runs with. */
  config: Config;
  load: () => { config: Config } | { errors: ConfigError[] };
  /** @throws Error when it can't be used; then nothing has changed. */
  apply: (config: Config) => Promise<void>;
  onChange: () => void;
  log: Logger;
  clock?: SinkClock;
}

export interface Reload {
  status: () => ConfigStatus;
  /** Empty when all of the file is in effect. */
  conditions: () => string[];
  /** Resolves when nothing is being taken over any more. */
  stop(): Promise<void>;
}

interface State extends Required<ReloadOptions> {
  /** Of the file as it was last taken, or refused. */
  known: string;
  /** Of the file at the last look. */
  seen: string;
  status: ConfigStatus;
}

export function followConfig(options: ReloadOptions): Reload {
  const { file, config, clock = systemClock } = options;
  const status = { file, loadedAt: clock.date().getTime(), errors: [], needsRestart: [] };
  const state: State = { ...options, config, clock, known: '', seen: '', status };
  const stopping = new AbortController();
  const running = run(state, stopping.signal);
  return {
    status: () => state.status,
    conditions: () => conditionsOf(state.status),
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

async function run(state: State, stopping: AbortSignal): Promise<void> {
  while (!stopping.aborted) {
    await look(state);
    await state.clock.wait(LOOK_MILLIS, stopping);
  }
}

async function look(state: State): Promise<void> {
  const identity = identify(state.file);
  const isSteady = identity === state.seen;
  state.seen = identity;
  if (!isSteady || identity === state.known) return;
  state.known = identity;
  const loaded = state.load();
  if ('errors' in loaded)
    return refuse(
      state,
      loaded.errors.map(({ message }) => message),
    );
  await take(state, loaded.config);
}

async function take(state: State, next: Config): Promise<void> {
  const { config, apply, log, file, onChange, clock } = state;
  const wanted = takeOver(config, next);
  const changed = changedKeys(config, wanted);
  try {
    if (changed.length > 0) await apply(wanted);
  } catch (error) {
    return refuse(state, [messageOf(error)]);
  }
  state.config = wanted;
  const needsRestart = waitingKeys(wanted, next);
  const before = state.status;
  state.status = { file, loadedAt: clock.date().getTime(), errors: [], needsRestart };
  if (changed.length > 0) log.info({ file, changed }, 'configuration: taken over');
  if (needsRestart.length > 0) log.warn({ file, needsRestart }, 'configuration: these keys need a restart');
  else if (before.errors.length + before.needsRestart.length > 0)
    log.info({ file }, 'configuration: all of it is in effect');
  onChange();
}

function refuse(state: State, errors: string[]): void {
  const { file, log, onChange } = state;
  state.status = { ...state.status, errors: errors.slice(0, MAX_ERRORS) };
  for (const error of state.status.errors) log.error({ file }, `configuration: ${error}`);
  log.error({ file, errors: errors.length }, 'the configuration of before stays');
  onChange();
}

function conditionsOf({ file, errors, needsRestart }: ConfigStatus): string[] {
  const [first] = errors;
  const named = [...needsRestart.slice(0, MAX_NAMED), ...more(needsRestart.length - MAX_NAMED)].join(', ');
  return [
    ...(first === undefined
      ? []
      : [`configuration: ${file} is not taken over: ${[first, ...more(errors.length - 1)].join('; ')}`]),
    ...(needsRestart.length === 0 ? [] : [`configuration: waits for a restart of the agent: ${named}`]),
  ];
}

function more(count: number): string[] {
  return count > 0 ? [`and ${count} more`] : [];
}

function identify(file: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
  } catch (error) {
    return messageOf(error);
  }
}

/** What capture tells of a resource, with what is said of the configuration. */
export function withConfiguration<Capture extends Pick<FollowedCapture, 'conditions'>>(
  capture: Capture,
  reload: () => Reload | undefined,
): Capture {
  return { ...capture, conditions: (named) => [...capture.conditions(named), ...(reload()?.conditions() ?? [])] };
}
