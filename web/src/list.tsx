/** The list of alerts. */
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import type { AlertRow } from '../../agent/ui/api.ts';
import { MOST_ROWS, type Listed } from './listed.ts';
import { Icon, LevelBadge, Skeleton, STATE_NAMES } from './parts.tsx';
import { grouped, short, Text } from './text.tsx';
import { clock, day, zoneName } from './time.ts';

/** How near the end of the list has to be. */
const NEAR_PIXELS = 800;

interface Acts {
  choose: (id: string, range: boolean) => void;
  open: (id: string) => void;
}

interface ListProps extends Acts {
  list: Listed;
  cursor: string | undefined;
  chosen: ReadonlySet<string> | 'all';
  empty: ComponentChildren;
}

export function List({ list, cursor, chosen, choose, open, empty }: ListProps): JSX.Element {
  const { rows } = list;
  const acts = useRef<Acts>({ choose, open });
  acts.current = { choose, open };
  const search = searchWithoutAlert();
  const written = `${zoneName()} ${day(Date.now())}`;
  // One row is reached by Tab, and from there the others by arrows.
  const stop = rows.some(({ id }) => id === cursor) ? cursor : rows[0]?.id;
  if (rows.length === 0) return list.loading ? <Skeleton /> : <>{empty}</>;
  return (
    <>
      <ol class="rows">
        {rows.map((row) => (
          <Row
            key={row.id}
            row={row}
            current={row.id === cursor}
            stop={row.id === stop}
            chosen={chosen === 'all' || chosen.has(row.id)}
            fresh={list.fresh.has(row.id)}
            search={search}
            written={written}
            acts={acts}
          />
        ))}
      </ol>
      <More list={list} />
    </>
  );
}

function searchWithoutAlert(): string {
  const params = new URLSearchParams(location.search);
  params.delete('alert');
  return params.toString();
}

/** Loads what is behind the list when its end comes near. */
function More({ list }: { list: Listed }): JSX.Element {
  const end = useRef<HTMLDivElement>(null);
  const { more, moreProblem, loading, rows, loadMore } = list;
  useEffect(() => {
    if (end.current === null || !more || loading || moreProblem !== undefined) return undefined;
    const observer = new IntersectionObserver(
      (entries) => {
        if (entries.some(({ isIntersecting }) => isIntersecting)) loadMore();
      },
      { rootMargin: `${NEAR_PIXELS}px` },
    );
    observer.observe(end.current);
    return () => observer.disconnect();
  }, [more, loading, moreProblem, rows.length]);
  return (
    <div class="more" ref={end}>
      {moreProblem !== undefined && (
        <p class="form-problem" role="alert">
          {moreProblem}
        </p>
      )}
      {more ? (
        <button type="button" disabled={loading} onClick={loadMore}>
          {loading ? 'Loading…' : 'More alerts'}
        </button>
      ) : (
        <span class="faint">
          {rows.length >= MOST_ROWS ? `The first ${grouped(MOST_ROWS)}: filter to find others` : 'That is all'}
        </span>
      )}
    </div>
  );
}

interface RowProps {
  row: AlertRow;
  current: boolean;
  /** Whether Tab stops here. */
  stop: boolean;
  chosen: boolean;
  fresh: boolean;
  /** What the address says beside the alert. */
  search: string;
  /** What says how times are written: the zone, and what day it is. */
  written: string;
  acts: { readonly current: Acts };
}

/** Drawn anew only when it shows something else: of two thousand, a key changes two. */
function Row(props: RowProps): JSX.Element {
  const { row, current, stop, chosen, fresh, search, written } = props;
  return useMemo(() => <DrawnRow {...props} />, [row, current, stop, chosen, fresh, search, written]);
}

function DrawnRow({ row, current, stop, chosen, fresh, search, acts }: RowProps): JSX.Element {
  const address = new URLSearchParams(search);
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
        tabIndex={stop ? 0 : -1}
        aria-label={`Choose the alert of ${row.timestamp}`}
        onClick={(event) => acts.current.choose(row.id, event.shiftKey)}
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
          tabIndex={stop ? 0 : -1}
          onClick={(event) => {
            if (event.metaKey || event.ctrlKey || event.shiftKey) return;
            event.preventDefault();
            acts.current.open(row.id);
          }}
        >
          <Text>{row.message === '' ? `Signature ${row.gid}:${row.sid}` : row.message}</Text>
        </a>
        <RowTags row={row} />
      </div>
      <div class="row-flow">
        <EndText end={row.source} />
        <span class="row-arrow" role="img" aria-label="to">
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
