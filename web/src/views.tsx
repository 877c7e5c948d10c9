/** Views that somebody saved in this browser: what is filtered by, under a name. */
import type { JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';
import { Icon } from './parts.tsx';
import { showBelow } from './popover.ts';
import { Text } from './text.tsx';
import type { Location } from './url.ts';

const KEY = 'dpi-agent-views';
const MOST = 50;

interface SavedView {
  name: string;
  /** The address's parameters. */
  query: string;
}

export function Views({ place }: { place: Location }): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const [views, setViews] = useState(readViews);
  const [name, setName] = useState('');
  const store = (next: SavedView[]): void => setViews(writeViews(next));
  const save = (): void => {
    const query = new URLSearchParams(place.params);
    query.delete('alert');
    store([...views.filter((view) => view.name !== name.trim()), { name: name.trim(), query: query.toString() }]);
    setName('');
  };
  return (
    <>
      <button
        ref={button}
        class="icon-button"
        type="button"
        aria-label="Saved views"
        title="Saved views"
        onClick={() => showBelow(box.current, button.current)}
      >
        <Icon name="star" />
      </button>
      <div ref={box} class="value-menu views" popover="auto" role="group" aria-label="Saved views">
        {views.length === 0 && <p class="faint">No view is saved in this browser.</p>}
        <List
          views={views}
          show={(query) => {
            box.current?.hidePopover();
            place.change((params) => replace(params, query));
          }}
          remove={(view) => store(views.filter((other) => other !== view))}
        />
        <form
          onSubmit={(event) => {
            event.preventDefault();
            if (name.trim() !== '') save();
          }}
        >
          <input
            aria-label="Name of the view"
            placeholder="Name"
            value={name}
            maxLength={80}
            onInput={({ currentTarget }) => setName(currentTarget.value)}
          />
          <button class="small" type="submit" disabled={views.length >= MOST}>
            Save this view
          </button>
        </form>
      </div>
    </>
  );
}

interface ListProps {
  views: readonly SavedView[];
  show: (query: string) => void;
  remove: (view: SavedView) => void;
}

function List({ views, show, remove }: ListProps): JSX.Element {
  return (
    <ul>
      {views.map((view) => (
        <li key={view.name}>
          <button class="link" type="button" onClick={() => show(view.query)}>
            <Text>{view.name}</Text>
          </button>
          <button
            class="value-button"
            type="button"
            aria-label={`Remove view ${view.name}`}
            title="Remove"
            onClick={() => remove(view)}
          >
            <Icon name="close" />
          </button>
        </li>
      ))}
    </ul>
  );
}

function replace(params: URLSearchParams, query: string): void {
  for (const key of new Set(params.keys())) params.delete(key);
  for (const [key, value] of new URLSearchParams(query)) params.append(key, value);
}

function readViews(): SavedView[] {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(stored) ? stored.filter(isView).slice(0, MOST) : [];
  } catch {
    // Storage may be forbidden.
    return [];
  }
}

function isView(value: unknown): value is SavedView {
  const { name, query } = (value ?? {}) as Record<string, unknown>;
  return typeof name === 'string' && typeof query === 'string';
}

function writeViews(views: SavedView[]): SavedView[] {
  try {
    localStorage.setItem(KEY, JSON.stringify(views));
  } catch {
    // Then they do not last.
  }
  return views;
}
