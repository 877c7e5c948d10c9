/** The Alerts page: filters, numbers over time, the alerts that they select, and one of them beside. */
import type { JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';
import { LEVELS, RANGES, type Session, type State, type Summary } from '../../agent/ui/api.ts';
import { Detail } from './detail.tsx';
import { Chips, Filters } from './filters.tsx';
import { Groups } from './groups.tsx';
import { Histogram } from './histogram.tsx';
import { useKeys } from './keys.ts';
import { List } from './list.tsx';
import { Empty, Icon, LEVEL_NAMES, Problem, RANGE_NAMES } from './parts.tsx';
import { short } from './text.tsx';
import { Toolbar } from './toolbar.tsx';
import { clearFilters, FILTERS, setRange, setSpan, toggle, type Location } from './url.ts';
import { keysOf, useView, type View } from './view.ts';

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
  const { opened, note, answers } = view;
  const { summary, live, loading, problem, shown, reload } = answers;
  return (
    <div class={opened === undefined ? 'alerts' : 'alerts with-detail'}>
      <FilterDrawer place={place} facets={summary.data?.facets} opened={drawer} close={closeDrawer} />
      <main aria-busy={loading}>
        <Toolbar place={place} live={live} search={search} drawer={drawer} openDrawer={() => setDrawer(true)} />
        <div class={loading ? 'progress running' : 'progress'} role="presentation" />
        {problem !== undefined && <Problem error={problem} retry={reload} />}
        {shown && (
          <>
            <Overview summary={summary.data} place={place} />
            <Chips place={place} facets={summary.data?.facets} />
            <Results view={view} />
          </>
        )}
      </main>
      {opened !== undefined && (
        <Detail
          key={opened}
          id={opened}
          row={answers.list.rows.find(({ id }) => id === opened)}
          session={session}
          close={() => view.open(undefined)}
          mark={(state) => view.mark([opened], state)}
        />
      )}
      <div class="note" role="status">
        {note !== undefined && <p>{note}</p>}
      </div>
    </div>
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

function Results({ view }: { view: View }): JSX.Element {
  const { place, session, grouping, answers, opened, cursor, chosen, choose, open } = view;
  const { list, groups } = answers;
  const filtered = FILTERS.some((name) => place.params.has(name)) || place.params.has('q');
  const empty = <Nothing filtered={filtered} place={place} session={session} />;
  return (
    <section class="card results" aria-label="Alerts">
      <div class="results-head">
        <GroupingButtons view={view} />
        {place.params.has('from') && (
          <button class="link" type="button" onClick={() => place.change((edited) => setRange(edited, '24h'))}>
            Reset time
          </button>
        )}
        {filtered && (
          <button class="link" type="button" onClick={() => place.change(clearFilters)}>
            Clear filters
          </button>
        )}
        {chosen.size > 0 && <Chosen view={view} />}
      </div>
      {grouping === 'none' ? (
        <List list={list} cursor={opened ?? cursor} chosen={chosen} choose={choose} open={open} empty={empty} />
      ) : (
        <Groups by={grouping} groups={groups.data} loading={groups.loading} place={place} empty={empty} />
      )}
    </section>
  );
}

function GroupingButtons({ view: { place, grouping } }: { view: View }): JSX.Element {
  return (
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
  );
}

/** What to make of the alerts that are chosen. */
function Chosen({ view: { chosen, mark } }: { view: View }): JSX.Element {
  const button = (state: State, what: string): JSX.Element => (
    <button class="small" type="button" onClick={() => mark([...chosen], state)}>
      {what}
    </button>
  );
  return (
    <span class="chosen">
      {chosen.size} chosen
      {button('acknowledged', 'Acknowledge')}
      {button('dismissed', 'Dismiss')}
    </span>
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
