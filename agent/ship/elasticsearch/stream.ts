/**
 * What a data stream has of events whose sending may have succeeded before: an id is taken once in each of its indices,
 * so after a rollover the same event would be there twice. They are looked for by their ids before they are sent again:
 * after a failure, and those that the agent before this one may have sent last.
 *
 * Not promised: that an event is there once whose first sending is still under way when it is looked for, while the
 * stream rolls over; or one that lies more than MOST_INDICES rollovers back.
 */
import type { Logger } from 'pino';
import type { Item, Outcome } from '../destination.ts';
import { get } from './classify.ts';
import type { Ask } from './manage.ts';

/** Since the start: as many as a batch may have. */
const MOST_OF_BEFORE = 10_000;
const MOST_DOUBTED = 20_000;
const MOST_INDICES = 10;
const DOCUMENTS_PER_REQUEST = 5000;

export interface StreamLedger {
  /** Ids of those that are there already, as far as it is in doubt. @throws what `ask` throws. */
  find(items: readonly Item[], ask: Ask): Promise<ReadonlySet<string>>;
  /** @param outcomes Undefined where the request failed, so that nothing is known. */
  settle(items: readonly Item[], outcomes: readonly Outcome[] | undefined): void;
}

export function createStreamLedger(stream: string, log: Pick<Logger, 'warn'>): StreamLedger {
  const doubted = new Set<string>();
  let ofBefore = MOST_OF_BEFORE;
  let isToldOf = false;
  return {
    async find(items, ask) {
      const asked = items.filter(({ id }, index) => index < ofBefore || doubted.has(id)).map(({ id }) => id);
      if (asked.length === 0) return new Set();
      const found = await findIn(stream, asked, ask);
      if (found === 'forbidden' && !isToldOf) {
        log.warn(
          `not permitted to read ${stream}: an event that is sent again after a rollover is there twice. Give the user that right`,
        );
      }
      isToldOf = found === 'forbidden';
      return found === 'forbidden' ? new Set() : found;
    },
    settle(items, outcomes) {
      for (const [index, { id }] of items.entries()) {
        const outcome = outcomes?.[index];
        if (outcome === undefined || outcome.is === 'retry') doubted.add(id);
        else doubted.delete(id);
      }
      if (outcomes !== undefined) ofBefore = Math.max(0, ofBefore - items.length);
      if (doubted.size <= MOST_DOUBTED) return;
      // Whatever comes next is doubted instead.
      doubted.clear();
      ofBefore = MOST_OF_BEFORE;
    },
  };
}

async function findIn(stream: string, ids: readonly string[], ask: Ask): Promise<Set<string> | 'forbidden'> {
  const { status, body } = await ask('GET', `/_data_stream/${stream}`);
  if (status === 403) return 'forbidden';
  const indices = get(get(get(body, 'data_streams'), '0'), 'indices');
  // The newest come last. The one that is written to too: it may be rolled over in a moment.
  const names = (Array.isArray(indices) ? indices : []).slice(-MOST_INDICES).map((index) => get(index, 'index_name'));
  const wanted = names.flatMap((_index) => ids.map((_id) => ({ _index, _id, _source: false })));
  const found = new Set<string>();
  for (let from = 0; from < wanted.length; from += DOCUMENTS_PER_REQUEST) {
    const docs = wanted.slice(from, from + DOCUMENTS_PER_REQUEST);
    const answer = await ask('POST', '/_mget?filter_path=docs._id,docs.found,docs.error.type', { docs });
    if (answer.status === 403) return 'forbidden';
    const list = get(answer.body, 'docs');
    for (const doc of Array.isArray(list) ? list : []) {
      if (get(get(doc, 'error'), 'type') === 'security_exception') return 'forbidden';
      const id = get(doc, '_id');
      if (get(doc, 'found') === true && typeof id === 'string') found.add(id);
    }
  }
  return found;
}
