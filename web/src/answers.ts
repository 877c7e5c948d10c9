/** What the Alerts page asks its server for, by what the address selects. */
import { useEffect } from 'preact/hooks';
import type { Flows, Group, Order, Summary } from '../../agent/ui/api.ts';
import { useList, type Listed } from './listed.ts';
import { useLive, type Live } from './live.ts';
import type { Mark } from './rows.ts';
import { useAnswer, useThrottled, type AnswerError, type Loaded } from './server.ts';
import { asksForState, queryOf } from './url.ts';

const RELOAD_MILLIS = 3000;
const RETRY_MILLIS = 5000;

export type Grouping = 'none' | 'signature' | 'pod' | 'flows';

export interface Answers {
  /** What they answer. */
  query: string;
  order: Order;
  list: Listed;
  summary: Loaded<Summary>;
  groups: Loaded<Group[]>;
  flows: Loaded<Flows>;
  live: Live;
  loading: boolean;
  /** Why one of them is missing. */
  problem: AnswerError | undefined;
  /** Whether they are what was asked for. */
  shown: boolean;
  reload: () => void;
  /** Shows what was made of alerts. */
  mark: (ids: readonly string[], mark: Mark) => void;
}

/** Asks again after what may pass by itself. */
function useFailure(failed: AnswerError | undefined, reload: () => void, signedOut: () => void): void {
  useEffect(() => {
    if (failed?.status === 401) signedOut();
  }, [failed?.status]);
  useEffect(() => {
    if (failed === undefined || (failed.status > 0 && failed.status < 500)) return undefined;
    const timer = setTimeout(reload, RETRY_MILLIS);
    return () => clearTimeout(timer);
  }, [failed]);
}

export function useAnswers(params: URLSearchParams, grouping: Grouping, signedOut: () => void): Answers {
  const query = queryOf(params);
  const order: Order = params.get('sort') === 'severity' ? 'severity' : 'time';
  const summary = useAnswer<Summary>(`/api/summary?${query}`);
  const groups = useAnswer<Group[]>(
    grouping === 'signature' || grouping === 'pod' ? `/api/groups?by=${grouping}&${query}` : undefined,
  );
  const flows = useAnswer<Flows>(grouping === 'flows' ? `/api/flows?${query}` : undefined);
  const recount = useThrottled(() => {
    summary.reload();
    groups.reload();
    flows.reload();
  }, RELOAD_MILLIS);
  const list = useList(grouping === 'none' ? query : undefined, order, params.getAll('state'), recount);
  const reload = (): void => {
    list.reload();
    summary.reload();
    groups.reload();
    flows.reload();
  };
  const mark = (ids: readonly string[], made: Mark): void => {
    list.mark(ids, made);
    // Only the server knows whether the query still selects them.
    if (asksForState(params)) list.reload();
    recount();
  };
  const failed = list.error ?? summary.error ?? groups.error ?? flows.error;
  const live = useLive(query, !params.has('to'), {
    alerts({ rows, more }) {
      if (more) list.refresh();
      else list.add(rows);
      recount();
    },
    marks: ({ ids, ...made }) => mark(ids, made),
    ready(first) {
      if (failed !== undefined) reload();
      else {
        list.refresh();
        if (!first) recount();
      }
    },
  });
  useFailure(failed, reload, signedOut);
  const problem = failed?.status === 401 ? undefined : failed;
  return {
    query,
    order,
    list,
    summary,
    groups,
    flows,
    live,
    loading: summary.loading || list.loading || groups.loading || flows.loading,
    problem,
    // Those of other filters would be taken for what was asked for.
    shown: problem === undefined || !(list.stale || summary.stale || groups.stale || flows.stale),
    reload,
    mark,
  };
}
