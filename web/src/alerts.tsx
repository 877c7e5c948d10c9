/** The Alerts page: filters, numbers over time, the alerts that they select, and one of them beside. */
import type { JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';
import { LEVELS, REASONS, type Reason, type Session, type Summary } from '../../agent/ui/api.ts';
import { Detail } from './detail/detail.tsx';
import { Chips, Filters } from './filters.tsx';
import { Histogram } from './histogram.tsx';
import { useKeys } from './keys.ts';
import type { Marking } from './marking.ts';
import { Icon, LEVEL_NAMES, Problem, REASON_NAMES } from './parts.tsx';
import { Results } from './results.tsx';
import { short } from './text.tsx';
import { Toolbar } from './toolbar.tsx';
import { clearAll, setSpan, toggle, type Location } from './url.ts';
import { keysOf, useView } from './view.ts';

interface Props {
  place: Location;
  session: Session;
  signedOut: () => void;
}

export function Alerts({ place, session, signedOut }: Props): JSX.Element {
  const view = useView(place, session, signedOut);
  const [drawer, setDrawer] = useState(false);
  const search = useRef<HTMLInputElement>(null);
  const closeDrawer = (): void => setDrawer(false);
  useKeys(keysOf(view, search, drawer ? closeDrawer : undefined));
  const [, setDrawn] = useState(0);
  const { opened, marking, answers } = view;
  const { summary, live, loading, problem, shown, reload, list } = answers;
  const mark = opened === undefined ? undefined : list.marks.get(opened);
  const row = list.rows.find(({ id }) => id === opened);
  return (
    <div class={opened === undefined ? 'alerts' : 'alerts with-detail'}>
      <main id="alerts" aria-busy={loading}>
        <Toolbar
          place={place}
          live={live}
          search={search}
          drawer={drawer}
          openDrawer={() => setDrawer(true)}
          leave={focusList}
        />
        <div class={loading ? 'progress running' : 'progress'} role="presentation" />
        {problem?.status === 400 ? (
          <Problem error={problem} retry={() => place.change(clearAll)} again="Show all alerts" />
        ) : (
          problem !== undefined && <Problem error={problem} retry={reload} />
        )}
        {shown && (
          <>
            <Overview summary={summary.data} place={place} />
            <Chips place={place} facets={summary.data?.facets} />
            <Results view={view} redraw={() => setDrawn((number) => number + 1)} />
          </>
        )}
      </main>
      <FilterDrawer place={place} facets={summary.data?.facets} opened={drawer} close={closeDrawer} />
      {opened !== undefined && (
        <Detail
          key={opened}
          id={opened}
          row={row}
          mark={mark}
          place={place}
          session={session}
          close={() => view.open(undefined)}
          markAs={(state) => view.mark([opened], state)}
          say={(doing) => marking.say([opened], doing)}
        />
      )}
      <NoteLine marking={marking} />
    </div>
  );
}

/** The first row that Tab stops at. */
export function focusList(): void {
  const row = document.querySelector<HTMLElement>('.rows a[tabindex="0"]');
  if (row !== null) row.focus();
  else if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
}

function NoteLine({ marking: { note, undo, explain } }: { marking: Marking }): JSX.Element {
  return (
    <div class="note" role="status">
      {note !== undefined && (
        <p>
          {note.text}
          {note.why && <Why explain={explain} />}
          {note.undo && (
            <button class="link" type="button" title="Undo (u)" onClick={undo}>
              Undo
            </button>
          )}
        </p>
      )}
    </div>
  );
}

/** Why alerts were dismissed: asked after it is done, so that nobody waits for it. */
function Why({ explain }: { explain: (reason: Reason) => void }): JSX.Element {
  return (
    <select
      aria-label="Why dismissed"
      value=""
      onChange={({ currentTarget }) => {
        const reason = REASONS.find((name) => name === currentTarget.value);
        if (reason !== undefined) explain(reason);
      }}
    >
      <option value="">Why…</option>
      {REASONS.map((reason) => (
        <option key={reason} value={reason}>
          {REASON_NAMES[reason]}
        </option>
      ))}
    </select>
  );
}

interface FilterDrawerProps {
  place: Location;
  facets: Summary['facets'] | undefined;
  opened: boolean;
  close: () => void;
}

/** A column; where the screen is narrow, a drawer over the rest. */
function FilterDrawer({ place, facets, opened, close }: FilterDrawerProps): JSX.Element {
  return (
    <>
      <aside class={opened ? 'filters open' : 'filters'} aria-label="Filters">
        <div class="filters-head">
          <h2>Filters</h2>
          <button class="icon-button only-narrow" type="button" aria-label="Close filters" onClick={close}>
            <Icon name="close" />
          </button>
        </div>
        <Filters place={place} facets={facets} />
      </aside>
      {opened && <div class="shade only-narrow" onClick={close} />}
    </>
  );
}

function Overview({ summary, place }: { summary: Summary | undefined; place: Location }): JSX.Element {
  return (
    <section class="card overview" aria-label="Alerts over time">
      <Numbers summary={summary} place={place} />
      {summary === undefined ? (
        <div class="histogram placeholder" />
      ) : (
        <Histogram summary={summary} choose={(from, to) => place.change((edited) => setSpan(edited, from, to))} />
      )}
    </section>
  );
}

function Numbers({ summary, place }: { summary: Summary | undefined; place: Location }): JSX.Element {
  return (
    <div class="numbers">
      <div class="number">
        <strong>{summary === undefined ? '–' : short(summary.total)}</strong>
        <span>{summary?.total === 1 ? 'alert' : 'alerts'}</span>
        {summary?.reading === true && <span class="faint">older ones are being read</span>}
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
