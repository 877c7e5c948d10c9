/** The list of alerts, newest first. */
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { AlertRow, Page, State } from '../../agent/ui/api.ts';
import { Icon, LevelBadge, Skeleton, STATE_NAMES } from './parts.tsx';
import { AnswerError, ask, useAnswer } from './server.ts';
import { clock, grouped, short, Text } from './text.tsx';

/** Older ones are for the filters to find. */
const MOST_ROWS = 2000;

export interface Listed {
  rows: AlertRow[];
  /** Rows that came by themselves. */
  fresh: ReadonlySet<string>;
  error?: AnswerError;
  loading: boolean;
  stale: boolean;
  more: boolean;
  /** Why older ones could not be loaded. */
  moreProblem?: string;
  loadMore: () => void;
  add: (rows: AlertRow[]) => void;
  mark: (ids: readonly string[], state: State) => void;
  reload: () => void;
}

interface Further {
  of?: Page;
  rows: AlertRow[];
  next?: string;
  loading: boolean;
  problem?: string;
}

/**
 * Its first page, those that were asked for behind it, and what came by itself.
 * @param query undefined: nothing is asked.
 */
export function useList(query: string | undefined): Listed {
  const first = useAnswer<Page>(query === undefined ? undefined : `/api/alerts?${query}`);
  const [further, setFurther] = useState<Further>({ rows: [], loading: false });
  const [added, setAdded] = useState<{ query?: string; rows: AlertRow[] }>({ rows: [] });
  const [marks, setMarks] = useState<ReadonlyMap<string, State>>(new Map());
  const stop = useRef<AbortController>(undefined);

  useEffect(() => {
    stop.current?.abort();
    setFurther({ ...(first.data === undefined ? {} : { of: first.data }), rows: [], loading: false });
    setAdded({ rows: [] });
    setMarks(new Map());
  }, [first.data]);

  const next = further.of === first.data && further.rows.length > 0 ? further.next : first.data?.next;
  const rows = useMemo(() => {
    const older = further.of === first.data ? further.rows : [];
    return merged([...added.rows, ...(first.data?.rows ?? []), ...older], marks);
  }, [first.data, further, added, marks]);

  return {
    rows,
    fresh: useMemo(() => new Set(added.rows.map(({ id }) => id)), [added]),
    ...(first.error === undefined ? {} : { error: first.error }),
    loading: first.loading || further.loading,
    stale: first.stale,
    ...(further.problem === undefined ? {} : { moreProblem: further.problem }),
    more: next !== undefined && rows.length < MOST_ROWS,
    loadMore() {
      if (next === undefined || further.loading || first.loading || rows.length >= MOST_ROWS) return;
      stop.current = new AbortController();
      const of = first.data;
      setFurther((before) => ({ ...before, loading: true }));
      ask<Page>(`/api/alerts?${query ?? ''}&after=${encodeURIComponent(next)}`, { signal: stop.current.signal }).then(
        (page) =>
          setFurther((before) => ({
            ...(of === undefined ? {} : { of }),
            rows: [...before.rows, ...page.rows],
            ...(page.next === undefined ? {} : { next: page.next }),
            loading: false,
          })),
        (error: unknown) => {
          const problem = error instanceof AnswerError ? error.message : String(error);
          if (stop.current?.signal.aborted !== true) setFurther((before) => ({ ...before, loading: false, problem }));
        },
      );
    },
    add: (fresh) => setAdded((before) => ({ rows: [...fresh, ...before.rows].slice(0, MOST_ROWS) })),
    mark: (ids, state) => setMarks((before) => new Map([...before, ...ids.map((id) => [id, state] as const)])),
    reload: first.reload,
  };
}

/** Each once, the first of its id; newest first, with what was made of it meanwhile. */
function merged(rows: readonly AlertRow[], marks: ReadonlyMap<string, State>): AlertRow[] {
  const unique = new Map<string, AlertRow>();
  for (const row of rows) {
    const state = marks.get(row.id);
    if (!unique.has(row.id)) unique.set(row.id, state === undefined ? row : { ...row, state });
  }
  return [...unique.values()].toSorted((a, b) =>
    a.timestamp === b.timestamp ? 0 : a.timestamp < b.timestamp ? 1 : -1,
  );
}

interface ListProps {
  list: Listed;
  cursor: string | undefined;
  chosen: ReadonlySet<string>;
  choose: (id: string) => void;
  open: (id: string) => void;
  empty: ComponentChildren;
}

export function List({ list, cursor, chosen, choose, open, empty }: ListProps): JSX.Element {
  const { rows } = list;
  if (rows.length === 0) return list.loading ? <Skeleton /> : <>{empty}</>;
  return (
    <>
      <ol class="rows">
        {rows.map((row) => (
          <Row
            key={row.id}
            row={row}
            current={row.id === cursor}
            chosen={chosen.has(row.id)}
            fresh={list.fresh.has(row.id)}
            choose={choose}
            open={open}
          />
        ))}
      </ol>
      <div class="more">
        {list.moreProblem !== undefined && (
          <p class="form-problem" role="alert">
            {list.moreProblem}
          </p>
        )}
        {list.more ? (
          <button type="button" disabled={list.loading} onClick={list.loadMore}>
            {list.loading ? 'Loading…' : 'Older alerts'}
          </button>
        ) : (
          <span class="faint">
            {rows.length >= MOST_ROWS ? `The newest ${grouped(MOST_ROWS)}: filter to find others` : 'That is all'}
          </span>
        )}
      </div>
    </>
  );
}

interface RowProps {
  row: AlertRow;
  current: boolean;
  chosen: boolean;
  fresh: boolean;
  choose: (id: string) => void;
  open: (id: string) => void;
}

function Row({ row, current, chosen, fresh, choose, open }: RowProps): JSX.Element {
  const address = new URLSearchParams(location.search);
  address.set('alert', row.id);
  const classes = [
    'row',
    `edge-${row.level}`,
    current && 'current',
    fresh && 'fresh',
    row.state !== 'open' && 'handled',
  ];
  return (
    <li class={classes.filter(Boolean).join(' ')} data-id={row.id} aria-current={current ? 'true' : undefined}>
      <input
        type="checkbox"
        checked={chosen}
        aria-label={`Choose the alert of ${row.timestamp}`}
        onChange={() => choose(row.id)}
      />
      <div class="row-when">
        <LevelBadge level={row.level} />
        <time dateTime={row.timestamp} title={row.timestamp}>
          {clock(row.timestamp)}
        </time>
      </div>
      <div class="row-what">
        <a
          href={`?${address}`}
          onClick={(event) => {
            if (event.metaKey || event.ctrlKey || event.shiftKey) return;
            event.preventDefault();
            open(row.id);
          }}
        >
          <Text>{row.message === '' ? `Signature ${row.gid}:${row.sid}` : row.message}</Text>
        </a>
        <RowTags row={row} />
      </div>
      <div class="row-flow">
        <EndText end={row.source} />
        <span class="row-arrow" aria-label="to">
          <Icon name="arrow" />
        </span>
        <EndText end={row.destination} />
      </div>
    </li>
  );
}

function RowTags({ row }: { row: AlertRow }): JSX.Element {
  return (
    <span class="row-more">
      <span class="mono">
        {row.gid}:{row.sid}
      </span>
      {row.count > 1 && (
        <span class="tag" title={`${row.count} alerts in one`}>
          ×{short(row.count)}
        </span>
      )}
      {row.state !== 'open' && <span class={`tag state-${row.state}`}>{STATE_NAMES[row.state]}</span>}
      {row.techniques.slice(0, 2).map((technique) => (
        <span key={technique} class="tag">
          <Text>{technique}</Text>
        </span>
      ))}
      {row.cves.slice(0, 1).map((cve) => (
        <span key={cve} class="tag">
          <Text>{cve}</Text>
        </span>
      ))}
    </span>
  );
}

function EndText({ end }: { end: AlertRow['source'] }): JSX.Element {
  const address =
    end.port === undefined ? end.ip : end.ip.includes(':') ? `[${end.ip}]:${end.port}` : `${end.ip}:${end.port}`;
  return (
    <span class="end">
      <span class="end-name">
        <Text>{end.name ?? end.ip}</Text>
      </span>
      <span class="end-address">
        {end.namespace !== undefined && (
          <>
            <Text>{end.namespace}</Text>
            {' · '}
          </>
        )}
        <span class="mono">
          <Text>{end.name === undefined && end.port !== undefined ? `port ${end.port}` : address}</Text>
        </span>
      </span>
    </span>
  );
}
