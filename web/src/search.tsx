/** The query in words: applied as it is typed, where it can be read; said what is wrong, where it can't. */
import type { JSX } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { MAX_QUERY } from '../../agent/ui/language/parse.ts';
import { Icon, TextProblem } from './parts.tsx';
import { useSuggestions, type Suggestions } from './suggestions.ts';
import { Text } from './text.tsx';
import { problemOf, type Location } from './url.ts';

const TYPING_MILLIS = 200;
/** Of a problem: who is still typing is not done with it. */
const PAUSE_MILLIS = 800;
const EXAMPLES = [
  'log4j jndi',
  '"jndi lookup"',
  'pod: shop/cart-*',
  'ip: 10.65.0.0/16',
  'severity >= high',
  'not service: dns',
];

const INPUT = {
  type: 'search',
  maxLength: MAX_QUERY,
  placeholder: 'Words, pod: shop/*, ip: 10.0.0.0/8, not …',
  spellcheck: false,
  autocomplete: 'off',
} as const;

interface Props {
  place: Location;
  field: { current: HTMLInputElement | null };
  /** What is behind the field, for who is done with it. */
  leave: () => void;
}

export function SearchField({ place, field, leave }: Props): JSX.Element {
  const current = place.params.get('q') ?? '';
  const [text, setText] = useState(current);
  const [paused, setPaused] = usePaused(text);
  const [focused, setFocused] = useState(false);
  /** Whether the last entry of the history is of what is being typed. */
  const typing = useRef(false);
  const hint = useId();
  const problem = problemOf(text);
  const choice = useSuggestions(focused ? text : '', place, (next) => {
    setText(next);
    setPaused(false);
    field.current?.focus();
  });
  useEffect(() => setText(current), [current]);

  const apply = (): void => {
    if (text.trim() === current.trim()) return;
    setQuery(place, text, typing);
  };
  useLater(apply, text, text !== current && problem === undefined);

  const press = pressOf(choice, {
    enter() {
      setPaused(true);
      if (problem !== undefined) return;
      apply();
      leave();
    },
    escape() {
      if (problem === undefined) apply();
      else setText(current);
      leave();
    },
  });
  const shown = paused ? problem : undefined;
  return (
    <div class="search">
      <label class="search-field">
        <span class="off-screen">Search alerts</span>
        <Icon name="search" />
        <input
          ref={field}
          {...INPUT}
          {...comboOf(choice)}
          list={undefined}
          value={text}
          aria-invalid={shown !== undefined}
          aria-describedby={hint}
          onInput={({ currentTarget }) => (setPaused(false), setText(currentTarget.value))}
          onFocus={() => setFocused(true)}
          onBlur={() => {
            typing.current = false;
            setFocused(false);
          }}
          onKeyDown={press}
        />
        <kbd>/</kbd>
      </label>
      <Hint id={hint} text={text} problem={shown} focused={focused} choice={choice} />
    </div>
  );
}

/** Does it when nothing was typed for a moment. */
function useLater(action: () => void, text: string, wanted: boolean): void {
  useEffect(() => {
    if (!wanted) return undefined;
    const timer = setTimeout(action, TYPING_MILLIS);
    return () => clearTimeout(timer);
  }, [text]);
}

function pressOf(choice: Suggestions, keys: { enter(): void; escape(): void }): (event: KeyboardEvent) => void {
  return (event) => {
    if (choice.press(event)) return;
    if (event.key === 'Enter') keys.enter();
    else if (event.key === 'Escape') {
      // The browser would empty the field, and leave the filter.
      event.preventDefault();
      keys.escape();
    }
  };
}

/** The list of suggestions is there while there are some. */
function comboOf({ id, items, active }: Suggestions) {
  const isOpen = items.length > 0;
  return {
    role: 'combobox',
    'aria-autocomplete': 'list',
    'aria-expanded': isOpen,
    'aria-controls': isOpen ? id : undefined,
    'aria-activedescendant': active === undefined ? undefined : `${id}-${active}`,
  } as const;
}

interface HintProps {
  id: string;
  text: string;
  problem: ReturnType<typeof problemOf>;
  focused: boolean;
  choice: Suggestions;
}

/** What is wrong, or what could be typed; without the focus, for readers of the screen only. */
function Hint({ id, text, problem, focused, choice }: HintProps): JSX.Element {
  return (
    <div id={id} class={problem !== undefined || focused ? 'search-hint' : 'off-screen'}>
      {problem === undefined || choice.items.length > 0 ? (
        <Hints choice={choice} />
      ) : (
        <div role="alert">
          <TextProblem text={text} position={problem.position} message={problem.message} />
        </div>
      )}
    </div>
  );
}

/** Whether somebody who types has paused: not while the text changes. */
function usePaused(text: string): [boolean, (paused: boolean) => void] {
  const [paused, setPaused] = useState(true);
  useEffect(() => {
    const timer = setTimeout(() => setPaused(true), PAUSE_MILLIS);
    return () => clearTimeout(timer);
  }, [text]);
  return [paused, setPaused];
}

/** @param typing Whether the last entry of the history is of what is being typed: then this one takes its place. */
function setQuery(place: Location, text: string, typing: { current: boolean }): void {
  place.change((params) => {
    if (text.trim() === '') params.delete('q');
    else params.set('q', text);
  }, typing.current);
  typing.current = true;
}

/** Fields that begin as what is typed last, values of the field, or examples. */
function Hints({ choice }: { choice: Suggestions }): JSX.Element {
  const { id, items, active, take } = choice;
  if (items.length === 0) {
    return (
      <p>
        {EXAMPLES.map((example) => (
          <code key={example}>{example}</code>
        ))}
        <span class="faint">
          all fields: <kbd>?</kbd>
        </span>
      </p>
    );
  }
  return (
    <ul id={id} role="listbox" aria-label="Suggestions">
      {items.map((item, index) => (
        <li
          key={item.text}
          id={`${id}-${index}`}
          role="option"
          aria-selected={index === active}
          // The field keeps the focus.
          onMouseDown={(event) => event.preventDefault()}
          onClick={() => take(item)}
        >
          <code>
            <Text>{item.shown}</Text>
          </code>
          <span class="faint">{item.about}</span>
        </li>
      ))}
    </ul>
  );
}
