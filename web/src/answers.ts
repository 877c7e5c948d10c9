/** What the Alerts page asks its server for, by what the address selects. */
import { useEffect } from 'preact/hooks';
import type { Group, Summary } from '../../agent/ui/api.ts';
import { useList, type Listed } from './list.tsx';
import { useLive, type Live } from './live.ts';
import { useAnswer, useThrottled, type AnswerError, type Loaded } from './server.ts';
import { queryOf } from './url.ts';

const RELOAD_MILLIS = 3000;

export type Grouping = 'none' | 'signature' | 'pod';

export interface Answers {
  /** What they answer. */
  query: string;
  list: Listed;
  summary: Loaded<Summary>;
  groups: Loaded<Group[]>;
  live: Live;
  loading: boolean;
  /** Why one of them is missing. */
  problem: AnswerError | undefined;
  /** Whether they are what was asked for. */
  shown: boolean;
  reload: () => void;
}

export function useAnswers(params: URLSearchParams, grouping: Grouping, signedOut: () => void): Answers {
  const query = queryOf(params);
  const list = useList(grouping === 'none' ? query : undefined);
  const summary = useAnswer<Summary>(`/api/summary?${query}`);
  const groups = useAnswer<Group[]>(grouping === 'none' ? undefined : `/api/groups?by=${grouping}&${query}`);
  const refresh = useThrottled(() => {
    summary.reload();
    groups.reload();
  }, RELOAD_MILLIS);
  const live = useLive(query, !params.has('to'), (message) => {
    list.add(message.rows);
    refresh();
  });
  const failed = list.error ?? summary.error ?? groups.error;
  useEffect(() => {
    if (failed?.status === 401) signedOut();
  }, [failed?.status]);
  const problem = failed?.status === 401 ? undefined : failed;
  return {
    query,
    list,
    summary,
    groups,
    live,
    loading: summary.loading || list.loading || groups.loading,
    problem,
    // Those of other filters would be taken for what was asked for.
    shown: problem === undefined || !(list.stale || summary.stale || groups.stale),
    reload() {
      list.reload();
      summary.reload();
      groups.reload();
    },
  };
}
