/**
 * What the agent wants done about pods, as entries of the policy of alerts say. It only asks: who isolates decides.
 *
 * Bounded: wishes that wait, and how often the same is wished. A wish that is refused is not wished again before the
 * quiet time is over; who can't be reached is asked again a few times.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import { messageOf } from '../files/errors.ts';
import { text } from '../kube/fields.ts';
import { ask, type RespondAddress } from './ask.ts';
import { ISOLATIONS_PATH, type AgentsWish } from './protocol.ts';

const MAX_WAITING = 32;
const MAX_REMEMBERED = 4_096;
const QUIET_MILLIS = 600_000;
const PAUSES_MILLIS = [1_000, 5_000, 20_000];

export interface WishesOptions {
  /** Without an address nobody is asked, and the log says so. */
  url?: string | undefined;
  caFile?: string | undefined;
  tokenFile: string;
  log: Pick<Logger, 'info' | 'warn'>;
  now?: () => number;
  pausesMillis?: readonly number[];
}

export interface Wishes {
  wish(wish: AgentsWish): void;
  /** Resolves when none is under way. */
  settled(): Promise<void>;
}

export function createWishes(options: WishesOptions): Wishes {
  const { url, caFile, log, now = () => performance.now() } = options;
  const asked = new LRUCache<string, number>({ max: MAX_REMEMBERED });
  const limit = pLimit(1);
  return {
    wish(wish) {
      const pod = `${wish.namespace}/${wish.pod}`;
      const key = `${wish.entry} ${pod}`;
      const last = asked.get(key);
      if (last !== undefined && now() - last < QUIET_MILLIS) return;
      asked.set(key, now());
      const about = { pod, entry: wish.entry, alert: wish.alert };
      if (url === undefined)
        return log.warn(about, 'respond: the policy wants a pod isolated, and respond.url names nobody');
      if (limit.pendingCount >= MAX_WAITING) return log.warn(about, 'respond: too many wishes at once: left out');
      void limit(() => send({ url, caFile }, wish, options));
    },
    settled: async () => limit(() => undefined),
  };
}

async function send(address: RespondAddress, wish: AgentsWish, options: WishesOptions): Promise<void> {
  const { log, tokenFile, pausesMillis = PAUSES_MILLIS } = options;
  const about = { pod: `${wish.namespace}/${wish.pod}`, entry: wish.entry, alert: wish.alert };
  for (const pause of [...pausesMillis, undefined]) {
    let problem: string;
    try {
      const token = (await readFile(tokenFile, 'utf8')).trim();
      const { status, body } = await ask(address, token, { method: 'POST', path: ISOLATIONS_PATH, body: wish });
      if (status === 200) {
        const isDone = body['isolation'] !== undefined;
        return log[isDone ? 'warn' : 'info'](about, isDone ? 'respond: isolated' : 'respond: would be isolated');
      }
      problem = text(body['error']) || `the answer is ${status}`;
      if (status < 500) return log.warn({ ...about, status, problem }, 'respond: not isolated');
    } catch (error) {
      problem = messageOf(error);
    }
    if (pause === undefined) return log.warn({ ...about, problem }, 'respond: not isolated');
    await sleep(pause, undefined, { ref: false });
  }
}
