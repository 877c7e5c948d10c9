/** The query in words: applied as it is typed, where it can be read; said what is wrong, where it can't. */
import type { JSX } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { FIELDS } from '../../agent/ui/language/fields.ts';
import { MAX_QUERY } from '../../agent/ui/language/parse.ts';
import { Icon } from './parts.tsx';
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
const MOST_HINTS = 6;

interface Props {
  place: Location;
  field: { current: HTMLInputElement | null };
  /** What is behind the field, for who is done with it. */
  leave: () => void;
}

export function SearchField({ place, field, leave }: Props): JSX.Element {
  const current = place.params.get('q') ?? '';
  const [text, setText] = useState(current);
  const [paused, setPaused] = useState(true);
  const [focused, setFocused] = useState(false);
  /** Whether the last entry of the history is of what is being typed. */
  const typing = useRef(false);
  const hint = useId();
  const problem = problemOf(text);
  useEffect(() => setText(current), [current]);

  const apply = (): void => {
    if (text.trim() === current.trim()) return;
    place.change((params) => {
      if (text.trim() === '') params.delete('q');
      else params.set('q', text);
    }, typing.current);
    typing.current = true;
  };
  useEffect(() => {
    if (text === current || problem !== undefined) return undefined;
    const timer = setTimeout(apply, TYPING_MILLIS);
    return () => clearTimeout(timer);
  }, [text]);
  useEffect(() => {
    const timer = setTimeout(() => setPaused(true), PAUSE_MILLIS);
    return () => clearTimeout(timer);
  }, [text]);

  const press = (event: KeyboardEvent): void => {
    if (event.key === 'Enter') {
      setPaused(true);
      if (problem !== undefined) return;
      apply();
      leave();
    } else if (event.key === 'Escape') {
      // The browser would empty the field, and leave the filter.
      event.preventDefault();
      if (problem === undefined) apply();
      else setText(current);
      leave();
    }
  };
  const shownProblem = paused ? problem : undefined;
  return (
    <div class="search">
      <label class="search-field">
        <span class="off-screen">Search alerts</span>
        <Icon name="search" />
        <input
          ref={field}
          type="search"
          maxLength={MAX_QUERY}
          placeholder="Words, pod: shop/*, ip: 10.0.0.0/8, not …"
          value={text}
          spellcheck={false}
          autocomplete="off"
          aria-invalid={shownProblem !== undefined}
          aria-describedby={hint}
          onInput={(event) => {
            setPaused(false);
            setText(event.currentTarget.value);
          }}
          onFocus={() => setFocused(true)}
          onBlur={() => {
            typing.current = false;
            setFocused(false);
          }}
          onKeyDown={press}
        />
        <kbd>/</kbd>
      </label>
      <div id={hint} class={shownProblem !== undefined || focused ? 'search-hint' : 'off-screen'}>
        {shownProblem === undefined ? (
          <Hints text={text} />
        ) : (
          <div role="alert">
            <p>{shownProblem.message}</p>
            <pre>{`${text}\n${' '.repeat(shownProblem.position)}^`}</pre>
          </div>
        )}
      </div>
    </div>
  );
}

/** Fields that begin as what is typed last. */
function Hints({ text }: { text: string }): JSX.Element {
  const [, start = ''] = /(?:^|[\s(])([a-z][a-z.]*)$/i.exec(text) ?? [];
  const fields = [...FIELDS]
    .filter(([name]) => start !== '' && name.startsWith(start.toLowerCase()))
    .slice(0, MOST_HINTS);
  if (fields.length === 0) {
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
    <dl>
      {fields.map(([name, { about, example }]) => (
        <div key={name}>
          <dt>
            <code>{example}</code>
          </dt>
          <dd class="faint">{about}</dd>
        </div>
      ))}
    </dl>
  );
}
