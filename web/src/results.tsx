/** The alerts that the filters select: as a list or in groups, and what to make of those that are chosen. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { RANGES, type Session, type State } from '../../agent/ui/api.ts';
import { CLUSTER, pathOf } from './cluster.ts';
import { FlowsView } from './flows.tsx';
import { Groups } from './groups.tsx';
import { List } from './list.tsx';
import { Empty, RANGE_NAMES } from './parts.tsx';
import { grouped } from './text.tsx';
import { zoneName } from './time.ts';
import { asksForState, clearFilters, clearSpan, FILTERS, setRange, type Location } from './url.ts';
import type { View } from './view.ts';
import { flipZone } from './zone.ts';

/** @param redraw For all times that are shown. */
export function Results({ view, redraw }: { view: View; redraw: () => void }): JSX.Element {
  const { place, session, grouping, answers, opened, cursor, chosen, marking } = view;
  const { list, groups } = answers;
  const filtered = FILTERS.some((name) => place.params.has(name)) || place.params.has('q');
  const empty = <Nothing filtered={filtered} place={place} session={session} />;
  return (
    <section class="card results" aria-label="Alerts">
      <div class="results-head">
        <GroupingButtons view={view} />
        {grouping === 'none' && <OrderField view={view} />}
        {place.params.has('from') && (
          <button class="link" type="button" onClick={() => place.change(clearSpan)}>
            Reset time
          </button>
        )}
        {filtered && (
          <button class="link" type="button" onClick={() => place.change(clearFilters)}>
            Clear filters
          </button>
        )}
        <Dismissed view={view} />
        <span class="results-end">
          <ZoneButton redraw={redraw} />
          <Downloads view={view} />
        </span>
      </div>
      {grouping === 'none' && list.rows.length > 0 && <Chosen view={view} />}
      {grouping === 'flows' && <FlowsView flows={answers.flows.data} place={place} empty={empty} />}
      {grouping === 'none' && (
        <List
          list={list}
          cursor={opened ?? cursor}
          chosen={chosen}
          choose={view.choose}
          open={view.open}
          empty={empty}
        />
      )}
      {(grouping === 'signature' || grouping === 'pod') && (
        <Groups
          by={grouping}
          groups={groups.data}
          loading={groups.loading}
          place={place}
          mark={marking.mark}
          empty={empty}
        />
      )}
    </section>
  );
}

function GroupingButtons({ view: { place, grouping } }: { view: View }): JSX.Element {
  return (
    <div class="segments" role="group" aria-label="Grouping">
      {(['none', 'signature', 'pod', 'flows'] as const).map((name) => (
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
          {{ none: 'Alerts', signature: 'By signature', pod: 'By pod', flows: 'Who attacks whom' }[name]}
        </button>
      ))}
    </div>
  );
}

function OrderField({ view: { place, answers } }: { view: View }): JSX.Element {
  return (
    <label class="order">
      <span class="off-screen">Order</span>
      <select
        value={answers.order}
        onChange={(event) => {
          const { value } = event.currentTarget;
          place.change((edited) => (value === 'severity' ? edited.set('sort', value) : edited.delete('sort')));
        }}
      >
        <option value="time">Newest first</option>
        <option value="severity">Most severe first</option>
      </select>
    </label>
  );
}

/** Says how many alerts are not shown because they were dismissed. */
function Dismissed({ view: { place, answers } }: { view: View }): JSX.Element | null {
  const hidden = answers.summary.data?.facets.state.find(({ value }) => value === 'dismissed')?.count ?? 0;
  if (hidden === 0 || place.params.has('state') || asksForState(place.params)) return null;
  return (
    <span class="faint">
      {grouped(hidden)} dismissed, not shown{' '}
      <button
        class="link"
        type="button"
        aria-label="Show dismissed alerts, too"
        onClick={() =>
          place.change((edited) => {
            for (const state of ['open', 'acknowledged', 'dismissed'] satisfies State[]) edited.append('state', state);
          })
        }
      >
        show
      </button>
    </span>
  );
}

function ZoneButton({ redraw }: { redraw: () => void }): JSX.Element {
  const [name, setName] = useState(() => zoneName());
  return (
    <button
      class="link"
      type="button"
      title="The zone of all times: that of this browser, or UTC"
      onClick={() => {
        flipZone();
        setName(zoneName());
        redraw();
      }}
    >
      <span class="off-screen">Times are in </span>
      {name}
    </button>
  );
}

function Downloads({ view: { answers, place } }: { view: View }): JSX.Element {
  const address = (as: string): string => pathOf(`/api/export?as=${as}&sort=${answers.order}&${answers.query}`);
  return (
    <>
      {(['csv', 'ndjson'] as const).map((as) => (
        <a
          key={as}
          href={address(as)}
          download
          title={as === 'csv' ? 'The alerts as a table' : 'The documents of the alerts, a line each'}
        >
          {as.toUpperCase()}
        </a>
      ))}
      <button
        class="link"
        type="button"
        title="A report of these alerts, to print"
        onClick={() =>
          place.change((params) => {
            params.set('page', 'report');
            params.delete('alert');
          })
        }
      >
        Report
      </button>
    </>
  );
}

/** What to make of the alerts that are chosen. */
function Chosen({ view }: { view: View }): JSX.Element {
  const { chosen, answers, chooseAll, chooseNone, markChosen } = view;
  const count = chosen === 'all' ? answers.summary.data?.total : chosen.size;
  const button = (state: State, what: string): JSX.Element => (
    <button class="small" type="button" onClick={() => markChosen(state)}>
      {what}
    </button>
  );
  return (
    <div class="chosen">
      <label>
        <input
          type="checkbox"
          checked={chosen === 'all'}
          onChange={() => (chosen === 'all' ? chooseNone() : chooseAll())}
        />
        {chosen === 'all' || chosen.size === 0 ? 'All that match' : `${chosen.size} chosen`}
      </label>
      {(chosen === 'all' || chosen.size > 0) && (
        <>
          {chosen === 'all' && count !== undefined && <strong>{grouped(count)}</strong>}
          {button('acknowledged', 'Acknowledge')}
          {button('dismissed', 'Dismiss')}
          {button('open', 'Open again')}
          <button class="link" type="button" onClick={chooseNone}>
            None
          </button>
        </>
      )}
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
      {CLUSTER === undefined && (
        <p>
          Which pods are inspected: see <a href="?page=coverage">Coverage</a>.
        </p>
      )}
      {range !== 'all' && (
        <button type="button" onClick={() => place.change((params) => setRange(params, 'all'))}>
          Look at all time
        </button>
      )}
    </Empty>
  );
}
