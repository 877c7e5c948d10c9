/** Above the alerts: text, time, and whether new ones show by themselves. */
import type { JSX } from 'preact';
import { RANGES } from '../../agent/ui/api.ts';
import type { Live } from './live.ts';
import { Icon, RANGE_NAMES } from './parts.tsx';
import { SearchField } from './search.tsx';
import { SpanField } from './span-field.tsx';
import { clearSpan, FILTERS, setRange, type Location } from './url.ts';
import { Views } from './views.tsx';

interface Props {
  place: Location;
  live: Live;
  search: { current: HTMLInputElement | null };
  /** Whether the filters are opened, on a narrow screen. */
  drawer: boolean;
  openDrawer: () => void;
  /** Goes to the alerts. */
  leave: () => void;
}

export function Toolbar({ place, live, search, drawer, openDrawer, leave }: Props): JSX.Element {
  const count = FILTERS.reduce((sum, name) => sum + place.params.getAll(name).length, 0);
  return (
    <div class="bar-row">
      <button class="only-narrow" type="button" aria-expanded={drawer} onClick={openDrawer}>
        <Icon name="filter" /> Filters{count > 0 ? ` (${count})` : ''}
      </button>
      <SearchField place={place} field={search} leave={leave} />
      <RangeField place={place} />
      <SpanField place={place} />
      <Views place={place} />
      <LiveButton place={place} live={live} />
    </div>
  );
}

function RangeField({ place }: { place: Location }): JSX.Element {
  const { params } = place;
  return (
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
  );
}

const LIVE_TITLES: Record<Live['state'], string> = {
  on: 'New alerts appear by themselves: pause',
  connecting: 'New alerts appear by themselves when the server answers: pause',
  paused: 'New alerts are not shown: follow them',
  past: 'The chosen time has an end, so no new alerts come: go back to those that do',
};

function LiveButton({ place, live: { state, flip } }: { place: Location; live: Live }): JSX.Element {
  return (
    <button
      class={`live live-${state}`}
      type="button"
      aria-pressed={state === 'on' || state === 'connecting'}
      onClick={() => (state === 'past' ? place.change(clearSpan) : flip())}
      title={LIVE_TITLES[state]}
    >
      <i class="dot" /> {{ on: 'Live', paused: 'Paused', connecting: 'Connecting', past: 'Past' }[state]}
    </button>
  );
}
