/** Above the alerts: text, time, and whether new ones show by themselves. */
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { RANGES } from '../../agent/ui/api.ts';
import type { Live } from './live.ts';
import { Icon, RANGE_NAMES } from './parts.tsx';
import { FILTERS, setRange, type Location } from './url.ts';

const TYPING_MILLIS = 200;

interface Props {
  place: Location;
  live: Live;
  search: { current: HTMLInputElement | null };
  /** Whether the filters are opened, on a narrow screen. */
  drawer: boolean;
  openDrawer: () => void;
}

export function Toolbar({ place, live, search, drawer, openDrawer }: Props): JSX.Element {
  const count = FILTERS.reduce((sum, name) => sum + place.params.getAll(name).length, 0);
  return (
    <div class="bar-row">
      <button class="only-narrow" type="button" aria-expanded={drawer} onClick={openDrawer}>
        <Icon name="filter" /> Filters{count > 0 ? ` (${count})` : ''}
      </button>
      <SearchField place={place} field={search} />
      <RangeField place={place} />
      <LiveButton live={live} />
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

function LiveButton({ live: { state, flip } }: { live: Live }): JSX.Element {
  const paused = state === 'paused';
  return (
    <button
      class={`live live-${state}`}
      type="button"
      aria-pressed={!paused}
      onClick={flip}
      title={paused ? 'New alerts are not shown: follow them' : 'New alerts appear by themselves: pause'}
    >
      <i class="dot" /> {{ on: 'Live', paused: 'Paused', connecting: 'Connecting' }[state]}
    </button>
  );
}
