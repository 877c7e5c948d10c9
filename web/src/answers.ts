/** What the Alerts page asks its server for, by what the address selects. */
import { useEffect } from 'preact/hooks';
import type { Flows, Group, Order, Summary } from '../../agent/ui/api.ts';
import { firstPagePath, useList, type Listed } from './listed.ts';
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

function orderOf(params: URLSearchParams): Order {
  return params.get('sort') === 'severity' ? 'severity' : 'time';
}

export function groupingOf(params: URLSearchParams): Grouping {
  const group = params.get('group');
  return group === 'signature' || group === 'pod' || group === 'flows' ? group : 'none';
}

function pathsOf(
  query: string,
  grouping: Grouping,
): { summary: string; groups: string | undefined; flows: string | undefined } {
  const inGroups = grouping === 'signature' || grouping === 'pod';
  return {
    summary: `/api/summary?${query}`,
    groups: inGroups ? `/api/groups?by=${grouping}&${query}` : undefined,
    flows: grouping === 'flows' ? `/api/flows?${query}` : undefined,
  };
}

/** What is asked first for the alerts that the address selects, in that order. */
export function firstPaths(params: URLSearchParams): string[] {
  const query = queryOf(params);
  const { summary, groups, flows } = pathsOf(query, groupingOf(params));
  return [groups ?? flows ?? firstPagePath(query, orderOf(params)), summary];
}

export function useAnswers(params: URLSearchParams, grouping: Grouping, signedOut: () => void): Answers {
  const query = queryOf(params);
  const order = orderOf(params);
  const paths = pathsOf(query, grouping);
  const recount = useThrottled(() => {
    groups.reload();
    flows.reload();
    summary.reload();
  }, RELOAD_MILLIS);
  // The counts are asked for last: the server has the alerts sooner.
  const list = useList(grouping === 'none' ? query : undefined, order, params.getAll('state'), recount);
  const groups = useAnswer<Group[]>(paths.groups);
  const flows = useAnswer<Flows>(paths.flows);
  const summary = useAnswer<Summary>(paths.summary);
  const reload = (): void => {
    list.reload();
    groups.reload();
    flows.reload();
    summary.reload();
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
