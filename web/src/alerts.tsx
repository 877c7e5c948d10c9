import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import {
  LEVELS,
  RANGES,
  type AlertRow,
  type Group,
  type LiveMessage,
  type Page,
  type Range,
  type Session,
  type State,
  type Summary,
} from '../../agent/ui/api.ts';
import { Detail } from './detail.tsx';
import { Chips, Filters } from './filters.tsx';
import { Histogram } from './histogram.tsx';
import { isTyping } from './keys.ts';
import { Empty, Icon, LEVEL_NAMES, LevelBadge, Problem, STATE_NAMES } from './parts.tsx';
import { ask, AnswerError, send, useAnswer, useThrottled } from './server.ts';
import { ago, clock, grouped, short, Text } from './text.tsx';
import { clearFilters, FILTERS, queryOf, setRange, setSpan, toggle, type Location } from './url.ts';

const RANGE_NAMES: Record<Range, string> = {
  '15m': 'Last 15 minutes',
  '1h': 'Last hour',
  '6h': 'Last 6 hours',
  '24h': 'Last 24 hours',
  '7d': 'Last 7 days',
  '30d': 'Last 30 days',
  all: 'All time',
};
const TYPING_MILLIS = 200;
const RELOAD_MILLIS = 3000;
/** In the list; older ones are for the filters to find. */
const MOST_ROWS = 2000;

type Grouping = 'none' | 'signature' | 'pod';

interface Props {
  place: Location;
  session: Session;
  signedOut: () => void;
}

export function Alerts({ place, session, signedOut }: Props): JSX.Element {
  const { params } = place;
  const query = queryOf(params);
  const grouping: Grouping =
    params.get('group') === 'signature' ? 'signature' : params.get('group') === 'pod' ? 'pod' : 'none';
  const opened = params.get('alert') ?? undefined;
  const list = useList(grouping === 'none' ? query : undefined);
  const summary = useAnswer<Summary>(`/api/summary?${query}`);
  const groups = useAnswer<Group[]>(grouping === 'none' ? undefined : `/api/groups?by=${grouping}&${query}`);
  const [cursor, setCursor] = useState<string>();
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [drawer, setDrawer] = useState(false);
  const [note, setNote] = useState<string>();
  const search = useRef<HTMLInputElement>(null);

  const refresh = useThrottled(() => {
    summary.reload();
    groups.reload();
  }, RELOAD_MILLIS);
  const live = useLive(query, !params.has('to'), (message) => {
    list.add(message.rows);
    refresh();
  });
  const failed = list.error ?? summary.error ?? groups.error;
  const problem = failed === undefined || failed.status === 401 ? undefined : failed;
  // Those of other filters would be taken for what was asked for.
  const shown = problem === undefined || !(list.stale || summary.stale || groups.stale);
  useEffect(() => {
    if (failed?.status === 401) signedOut();
  }, [failed?.status]);
  useEffect(() => {
    setChosen(new Set());
  }, [query, grouping]);
  useEffect(() => {
    if (note === undefined) return undefined;
    const timer = setTimeout(() => setNote(undefined), 6000);
    return () => clearTimeout(timer);
  }, [note]);

  const open = (id: string | undefined): void => {
    if (id !== undefined) setCursor(id);
    place.change((edited) => {
      if (id === undefined) edited.delete('alert');
      else edited.set('alert', id);
    });
  };
  const mark = (ids: readonly string[], state: State): void => {
    if (ids.length === 0) return;
    send('POST', '/api/marks', { ids, state }).then(
      () => {
        list.mark(ids, state);
        setChosen(new Set());
        setNote(`${ids.length === 1 ? 'Alert' : `${ids.length} alerts`}: ${STATE_NAMES[state].toLowerCase()}`);
        summary.reload();
      },
      (error: unknown) => setNote(error instanceof AnswerError ? error.message : String(error)),
    );
  };

  useKeys({
    move(by) {
      const index = list.rows.findIndex(({ id }) => id === (cursor ?? opened));
      const next = list.rows[Math.min(list.rows.length - 1, Math.max(0, index + by))];
      if (next === undefined) return;
      setCursor(next.id);
      if (opened !== undefined) place.change((edited) => edited.set('alert', next.id), true);
      document.querySelector(`[data-id="${CSS.escape(next.id)}"]`)?.scrollIntoView({ block: 'nearest' });
    },
    open() {
      if (cursor !== undefined) open(cursor);
    },
    close() {
      if (drawer) setDrawer(false);
      else if (opened !== undefined) open(undefined);
      else setChosen(new Set());
    },
    search() {
      search.current?.focus();
      search.current?.select();
    },
    choose() {
      if (cursor !== undefined) setChosen(flipped(chosen, cursor));
    },
    mark(state) {
      mark(chosen.size > 0 ? [...chosen] : cursor === undefined ? [] : [cursor], state);
    },
  });

  const filtered = FILTERS.some((name) => params.has(name)) || params.has('q');
  const count = FILTERS.reduce((sum, name) => sum + params.getAll(name).length, 0);
  const loading = summary.loading || list.loading || groups.loading;
  return (
    <div class={opened === undefined ? 'alerts' : 'alerts with-detail'}>
      <aside class={drawer ? 'filters open' : 'filters'} aria-label="Filters">
        <div class="filters-head">
          <h2>Filters</h2>
          <button
            class="icon-button only-narrow"
            type="button"
            aria-label="Close filters"
            onClick={() => setDrawer(false)}
          >
            <Icon name="close" />
          </button>
        </div>
        <Filters place={place} facets={summary.data?.facets} />
      </aside>
      {drawer && <div class="shade only-narrow" onClick={() => setDrawer(false)} />}
      <main aria-busy={loading}>
        <div class="bar-row">
          <button class="only-narrow" type="button" aria-expanded={drawer} onClick={() => setDrawer(true)}>
            <Icon name="filter" /> Filters{count > 0 ? ` (${count})` : ''}
          </button>
          <SearchField place={place} field={search} />
          <label class="range">
            <span class="off-screen">Time</span>
            <select
              value={params.has('from') ? 'chosen' : (params.get('range') ?? '24h')}
              onChange={(event) => {
                const range = RANGES.find((name) => name === event.currentTarget.value);
                if (range !== undefined) place.change((edited) => setRange(edited, range));
              }}
            >
              {params.has('from') && <option value="chosen">Chosen time</option>}
              {RANGES.map((range) => (
                <option key={range} value={range}>
                  {RANGE_NAMES[range]}
                </option>
              ))}
            </select>
          </label>
          <button
            class={`live live-${live.state}`}
            type="button"
            aria-pressed={live.state !== 'paused'}
            onClick={live.flip}
            title={
              live.state === 'paused'
                ? 'New alerts are not shown: follow them'
                : 'New alerts appear by themselves: pause'
            }
          >
            <i class="dot" /> {live.state === 'on' ? 'Live' : live.state === 'paused' ? 'Paused' : 'Connecting'}
          </button>
        </div>
        <div class={loading ? 'progress running' : 'progress'} role="presentation" />
        {problem !== undefined && (
          <Problem
            error={problem}
            retry={() => {
              list.reload();
              summary.reload();
              groups.reload();
            }}
          />
        )}
        {shown && (
          <>
            <section class="card overview" aria-label="Alerts over time">
              <Numbers summary={summary.data} place={place} />
              {summary.data === undefined ? (
                <div class="histogram placeholder" />
              ) : (
                <Histogram
                  summary={summary.data}
                  choose={(from, to) => place.change((edited) => setSpan(edited, from, to))}
                />
              )}
            </section>
            <Chips place={place} facets={summary.data?.facets} />
            <section class="card results" aria-label="Alerts">
              <div class="results-head">
                <div class="segments" role="group" aria-label="Grouping">
                  {(['none', 'signature', 'pod'] as const).map((name) => (
                    <button
                      key={name}
                      type="button"
                      aria-pressed={grouping === name}
                      onClick={() =>
                        place.change((edited) => {
                          if (name === 'none') edited.delete('group');
                          else edited.set('group', name);
                          edited.delete('alert');
                        })
                      }
                    >
                      {{ none: 'Alerts', signature: 'By signature', pod: 'By pod' }[name]}
                    </button>
                  ))}
                </div>
                {params.has('from') && (
                  <button class="link" type="button" onClick={() => place.change((edited) => setRange(edited, '24h'))}>
                    Reset time
                  </button>
                )}
                {filtered && (
                  <button class="link" type="button" onClick={() => place.change(clearFilters)}>
                    Clear filters
                  </button>
                )}
                {chosen.size > 0 && (
                  <span class="chosen">
                    {chosen.size} chosen
                    <button class="small" type="button" onClick={() => mark([...chosen], 'acknowledged')}>
                      Acknowledge
                    </button>
                    <button class="small" type="button" onClick={() => mark([...chosen], 'dismissed')}>
                      Dismiss
                    </button>
                  </span>
                )}
              </div>
              {grouping === 'none' ? (
                <List
                  list={list}
                  cursor={opened ?? cursor}
                  chosen={chosen}
                  choose={(id) => setChosen(flipped(chosen, id))}
                  open={open}
                  empty={<Nothing filtered={filtered} place={place} session={session} />}
                />
              ) : (
                <Groups
                  by={grouping}
                  groups={groups.data}
                  loading={groups.loading}
                  place={place}
                  empty={<Nothing filtered={filtered} place={place} session={session} />}
                />
              )}
            </section>
          </>
        )}
      </main>
      {opened !== undefined && (
        <Detail
          key={opened}
          id={opened}
          row={list.rows.find(({ id }) => id === opened)}
          session={session}
          close={() => open(undefined)}
          mark={(state) => mark([opened], state)}
        />
      )}
      <div class="note" role="status">
        {note !== undefined && <p>{note}</p>}
      </div>
    </div>
  );
}

function flipped(set: ReadonlySet<string>, id: string): ReadonlySet<string> {
  const next = new Set(set);
  if (!next.delete(id)) next.add(id);
  return next;
}

function Numbers({ summary, place }: { summary: Summary | undefined; place: Location }): JSX.Element {
  return (
    <div class="numbers">
      <div class="number">
        <strong>{summary === undefined ? '–' : short(summary.total)}</strong>
        <span>{summary?.total === 1 ? 'alert' : 'alerts'}</span>
      </div>
      {LEVELS.map((level) => (
        <button
          key={level}
          class={`number number-${level}`}
          type="button"
          aria-pressed={place.params.getAll('level').includes(level)}
          onClick={() => place.change((params) => toggle(params, 'level', level))}
        >
          <strong>{summary === undefined ? '–' : short(summary.counts[level])}</strong>
          <span>
            <i class={`dot fill-${level}`} /> {LEVEL_NAMES[level].toLowerCase()}
          </span>
        </button>
      ))}
    </div>
  );
}

function SearchField({ place, field }: { place: Location; field: { current: HTMLInputElement | null } }): JSX.Element {
  const current = place.params.get('q') ?? '';
  const [text, setText] = useState(current);
  useEffect(() => setText(current), [current]);
  useEffect(() => {
    if (text === current) return undefined;
    const timer = setTimeout(
      () =>
        place.change((params) => {
          if (text.trim() === '') params.delete('q');
          else params.set('q', text);
        }, true),
      TYPING_MILLIS,
    );
    return () => clearTimeout(timer);
  }, [text]);
  return (
    <label class="search">
      <span class="off-screen">Search alerts</span>
      <Icon name="search" />
      <input
        ref={field}
        type="search"
        maxLength={200}
        placeholder="Message, pod, address, CVE, technique…"
        value={text}
        spellcheck={false}
        autocomplete="off"
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === 'Escape') event.currentTarget.blur();
        }}
      />
      <kbd>/</kbd>
    </label>
  );
}

interface Listed {
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

/** The list: its first page, and those that were asked for behind it. */
function useList(query: string | undefined): Listed {
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
    const unique = new Map<string, AlertRow>();
    const all = [...added.rows, ...(first.data?.rows ?? []), ...(further.of === first.data ? further.rows : [])];
    for (const row of all) {
      const state = marks.get(row.id);
      if (!unique.has(row.id)) unique.set(row.id, state === undefined ? row : { ...row, state });
    }
    return [...unique.values()].toSorted((a, b) =>
      a.timestamp === b.timestamp ? 0 : a.timestamp < b.timestamp ? 1 : -1,
    );
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

type LiveState = 'on' | 'connecting' | 'paused';

function useLive(
  query: string,
  possible: boolean,
  take: (message: LiveMessage) => void,
): { state: LiveState; flip: () => void } {
  const [paused, setPaused] = useState(false);
  const [state, setState] = useState<LiveState>('connecting');
  const latest = useRef(take);
  latest.current = take;
  const on = possible && !paused;
  useEffect(() => {
    if (!on) return undefined;
    setState('connecting');
    const stream = new EventSource(`/api/live?${query}`);
    stream.addEventListener('open', () => setState('on'));
    // It connects again by itself.
    stream.addEventListener('error', () => setState('connecting'));
    stream.addEventListener('alerts', (event: MessageEvent<string>) =>
      latest.current(JSON.parse(event.data) as LiveMessage),
    );
    return () => stream.close();
  }, [query, on]);
  return { state: on ? state : 'paused', flip: () => setPaused(!paused) };
}

interface Keys {
  move(by: 1 | -1): void;
  open(): void;
  close(): void;
  search(): void;
  choose(): void;
  mark(state: State): void;
}

function useKeys(keys: Keys): void {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      if (
        event.ctrlKey ||
        event.metaKey ||
        event.altKey ||
        isTyping(event) ||
        document.querySelector('dialog[open]') !== null
      )
        return;
      const { current } = latest;
      const onControl =
        event.target instanceof HTMLElement && event.target.closest('a, button, summary, input') !== null;
      const actions: Record<string, () => void> = {
        j: () => current.move(1),
        k: () => current.move(-1),
        Escape: () => current.close(),
        '/': () => current.search(),
        x: () => current.choose(),
        a: () => current.mark('acknowledged'),
        d: () => current.mark('dismissed'),
        o: () => current.mark('open'),
        // On a link or a button it does what that one does.
        ...(onControl ? {} : { Enter: () => current.open() }),
      };
      const action = actions[event.key];
      if (action === undefined) return;
      event.preventDefault();
      action();
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  }, []);
}

interface ListProps {
  list: Listed;
  cursor: string | undefined;
  chosen: ReadonlySet<string>;
  choose: (id: string) => void;
  open: (id: string) => void;
  empty: ComponentChildren;
}

function List({ list, cursor, chosen, choose, open, empty }: ListProps): JSX.Element {
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

interface GroupsProps {
  by: 'signature' | 'pod';
  groups: Group[] | undefined;
  loading: boolean;
  place: Location;
  empty: ComponentChildren;
}

function Groups({ by, groups, loading, place, empty }: GroupsProps): JSX.Element {
  if (groups === undefined) return <Skeleton />;
  if (groups.length === 0) return loading ? <Skeleton /> : <>{empty}</>;
  const most = Math.max(...groups.map(({ count }) => count));
  return (
    <ol class="groups">
      {groups.map((group) => (
        <li key={group.key} class={`edge-${group.level}`}>
          <button
            type="button"
            onClick={() =>
              place.change((params) => {
                params.delete('group');
                params.delete(by);
                params.append(by, group.key);
              })
            }
          >
            <LevelBadge level={group.level} />
            <span class="group-name">
              <Text>{group.label === '' ? group.key : group.label}</Text>
              {by === 'signature' && <span class="mono faint">{group.key}</span>}
            </span>
            <span class="group-count">
              <strong>{grouped(group.count)}</strong>
              <span class="faint">{ago(group.newest)}</span>
            </span>
            <meter min={0} max={most} value={group.count} aria-hidden="true" />
          </button>
        </li>
      ))}
    </ol>
  );
}

function Skeleton(): JSX.Element {
  return (
    <div class="skeleton" role="status" aria-label="Loading">
      {Array.from({ length: 6 }, (_, index) => (
        <div key={index} />
      ))}
    </div>
  );
}

function Nothing({ filtered, place, session }: { filtered: boolean; place: Location; session: Session }): JSX.Element {
  const range = place.params.get('range') ?? '24h';
  if (filtered || place.params.has('from')) {
    return (
      <Empty icon="search" title="Nothing matches">
        <p>No alert passes all of these filters in this time.</p>
        <button type="button" onClick={() => place.change((params) => (clearFilters(params), setRange(params, 'all')))}>
          Show all alerts
        </button>
      </Empty>
    );
  }
  return (
    <Empty
      icon="shield"
      title={
        range === 'all'
          ? 'No alerts yet'
          : `No alerts in the ${RANGE_NAMES[RANGES.find((name) => name === range) ?? '24h'].toLowerCase()}`
      }
    >
      {session.source.kind === 'journal' ? (
        <p>
          Alerts come from the journal in <code>{session.source.directory}</code>, as soon as an agent writes them
          there.
        </p>
      ) : (
        <p>
          Alerts come from <code>{session.source.index}</code> in Elasticsearch, as soon as an agent sends them there.
        </p>
      )}
      <p>
        Which pods are inspected: see <a href="?page=coverage">Coverage</a>.
      </p>
      {range !== 'all' && (
        <button type="button" onClick={() => place.change((params) => setRange(params, 'all'))}>
          Look at all time
        </button>
      )}
    </Empty>
  );
}
