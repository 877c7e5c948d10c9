/**
 * What the component does: takes wishes of persons and agents, and releases what is over. The state is the cluster's: a
 * keeper that starts anew goes on where another one ended, and two of them do no harm.
 *
 * Isolations are made one after the other, so that bounds hold.
 */
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import { messageOf } from '../files/errors.ts';
import { ApiError, type ApiClient } from '../kube/api.ts';
import { checkInspected } from './inspected.ts';
import { createBounds, type BoundsOptions } from './bounds.ts';
import { RespondError } from './cut.ts';
import { isolate, listIsolations, release, type Acting, type Done } from './isolate.ts';
import type { KnownIsolation } from './isolation.ts';
import type { AgentsWish, PersonsWish } from './protocol.ts';

const LOOK_MILLIS = 10_000;
const MAX_WAITING = 64;

export interface KeeperOptions extends BoundsOptions {
  client: ApiClient;
  protectedNamespaces: readonly string[];
  /** Whether wishes of agents are carried out. */
  automatic: boolean;
  maxFor: number;
  log: Logger;
  now?: () => number;
  lookMillis?: number;
}

export interface Keeper {
  /** @throws RespondError, ApiError */
  isolateForPerson(wish: PersonsWish, person: string): Promise<Done>;
  /** @param node On which the agent runs. @throws RespondError, ApiError */
  isolateForAgent(wish: AgentsWish, node: string): Promise<Done>;
  /** @throws RespondError, ApiError */
  release(namespace: string, pod: string, person: string, reason: string): Promise<void>;
  list(namespace?: string): Promise<KnownIsolation[]>;
  status(): KeeperStatus;
  stop(): Promise<void>;
}

export interface KeeperStatus {
  /** Isolated pods, as last looked at. */
  isolated: number;
  acts: { isolated: number; released: number; dryRun: number; refused: number };
  /** What keeps it from releasing. */
  problem: string | undefined;
}

interface State extends KeeperStatus {
  readonly options: KeeperOptions;
  readonly acting: Acting;
  readonly now: () => number;
}

export function startKeeper(options: KeeperOptions): Keeper {
  const { client, log, now = Date.now, lookMillis = LOOK_MILLIS } = options;
  const warn = (message: string): void => log.warn(message);
  const acting = { client, isProtected: options.protectedNamespaces, now, warn };
  const acts = { isolated: 0, released: 0, dryRun: 0, refused: 0 };
  const state: State = { options, acting, now, isolated: 0, acts, problem: 'isolated pods were not looked at yet' };
  const bounds = createBounds(options);
  const limit = pLimit(1);
  const inTurn = <T>(act: () => Promise<T>): Promise<T> => {
    if (limit.pendingCount >= MAX_WAITING) throw new RespondError('Bounded', 'too many wishes at once: try again');
    return limit(act);
  };
  let isWaiting = false;
  const lookInTurn = (): void => {
    // A slow API server does not pile them up.
    if (isWaiting) return;
    isWaiting = true;
    void limit(async () => {
      isWaiting = false;
      await look(state);
    });
  };
  lookInTurn();
  const timer = setInterval(lookInTurn, lookMillis);
  return {
    isolateForPerson: (wish, person) => inTurn(() => counted(state, forPerson(state, wish, person))),
    isolateForAgent: (wish, node) => inTurn(() => counted(state, forAgent(state, bounds, wish, node))),
    release: (namespace, pod, person, reason) => inTurn(() => releaseFor(state, { namespace, pod, person, reason })),
    list: (namespace) => listIsolations(client, namespace),
    status: () => ({ isolated: state.isolated, acts: { ...acts }, problem: state.problem }),
    async stop() {
      clearInterval(timer);
      limit.clearQueue();
      // After what is under way.
      await limit(() => undefined);
    },
  };
}

async function counted({ acts }: State, act: Promise<Done>): Promise<Done> {
  try {
    const done = await act;
    acts[done.isolation === undefined ? 'dryRun' : 'isolated']++;
    return done;
  } catch (error) {
    acts.refused++;
    throw error;
  }
}

async function forPerson({ options, acting }: State, wish: PersonsWish, person: string): Promise<Done> {
  const { alert, ...rest } = wish;
  const forMillis = Math.min(rest.forMillis, options.maxFor);
  const about = alert === undefined ? {} : { alert };
  const done = await isolate(acting, { ...rest, ...about, forMillis, by: person, origin: 'person' });
  note(options.log, done, person);
  return done;
}

async function forAgent(
  { options, acting, now }: State,
  bounds: ReturnType<typeof createBounds>,
  { entry, ...wish }: AgentsWish,
  node: string,
): Promise<Done> {
  const by = `policy ${entry} on ${node}`;
  const dryRun = wish.dryRun || !options.automatic;
  const forMillis = Math.min(wish.forMillis, options.maxFor);
  // Dry or not, it is told what would come of it.
  bounds.check(wish, await listIsolations(acting.client), now());
  const whole = { ...wish, forMillis, by, origin: 'policy', partly: false } as const;
  const { cut } = await isolate(acting, { ...whole, dryRun: true });
  if (cut.node !== node)
    throw new RespondError('Protected', `${wish.namespace}/${wish.pod} is not on the agent's node ${node}`);
  await checkInspected(acting.client, cut);
  const done = dryRun ? { cut } : await isolate(acting, { ...whole, dryRun: false });
  if (!dryRun) bounds.used(cut.podUid, now());
  note(options.log, done, by);
  return done;
}

async function releaseFor(
  { acting, options, acts }: State,
  { namespace, pod, person, reason }: { namespace: string; pod: string; person: string; reason: string },
): Promise<void> {
  const found = (await listIsolations(acting.client, namespace)).filter((one) => one.pod === pod);
  if (found.length === 0) throw new RespondError('NotFound', `${namespace}/${pod} is not isolated`);
  for (const one of found) {
    await release(acting, one, `by ${person}${reason === '' ? '' : `: ${reason}`}`);
    acts.released++;
    options.log.info({ act: 'release', pod: `${namespace}/${pod}`, by: person, reason }, 'respond: released');
  }
}

/** Releases what is over. What fails is tried again at the next look. */
async function look(state: State): Promise<void> {
  const { acting, options, now, acts } = state;
  const problems: string[] = [];
  try {
    const there = await listIsolations(acting.client);
    const over = there.filter(({ until }) => Date.parse(until) <= now());
    state.isolated = there.length - over.length;
    for (const one of over) {
      try {
        await release(acting, one, 'its time is over');
        acts.released++;
        options.log.info(
          { act: 'release', pod: `${one.namespace}/${one.pod}`, by: 'expiry', until: one.until },
          'respond: released',
        );
      } catch (error) {
        problems.push(`${one.namespace}/${one.pod} can't be released: ${messageOf(error)}`);
      }
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    problems.push(error.message);
  }
  const problem = problems[0];
  if (problem !== state.problem && problem !== undefined) options.log.warn({ problem }, 'respond: a look failed');
  state.problem = problem;
}

/** The line of who did what. */
function note(log: Logger, { cut, isolation }: Done, by: string): void {
  const { services, open, engine } = cut;
  const pod = `${cut.namespace}/${cut.pod}`;
  if (isolation === undefined)
    return log.info({ act: 'dry-run', pod, by, services, open, engine }, 'respond: would isolate');
  const { allow, reason, alert, until } = isolation;
  log.warn({ act: 'isolate', pod, by, allow, reason, alert, until, services, open, engine }, 'respond: isolated');
}
