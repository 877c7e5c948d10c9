/** From and to, as they are typed. */
import type { JSX } from 'preact';
import { useId, useRef, useState } from 'preact/hooks';
import { Icon } from './parts.tsx';
import { showBelow } from './popover.ts';
import { parseMoment, typable, zoneName } from './time.ts';
import { clearSpan, type Location } from './url.ts';

export function SpanField({ place }: { place: Location }): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const [typed, setTyped] = useState({ from: '', to: '' });
  const [problem, setProblem] = useState('');
  const open = (): void => {
    setTyped({ from: shown(place.params.get('from')), to: shown(place.params.get('to')) });
    setProblem('');
    showBelow(box.current, button.current);
  };
  const apply = (): void => {
    const [from, to] = [typed.from, typed.to].map((text) => (text.trim() === '' ? undefined : parseMoment(text)));
    const wrong = problemOf(typed, from, to);
    setProblem(wrong);
    if (wrong !== '') return;
    place.change((params) => {
      clearSpan(params);
      if (from !== undefined) params.set('from', new Date(from).toISOString());
      if (to !== undefined) params.set('to', new Date(to).toISOString());
    });
    box.current?.hidePopover();
  };
  return (
    <>
      <button
        ref={button}
        class="icon-button"
        type="button"
        aria-label="From and to"
        title="From and to"
        onClick={open}
      >
        <Icon name="clock" />
      </button>
      <div ref={box} class="value-menu span-box" popover="auto" role="group" aria-label="From and to">
        <Form typed={typed} change={setTyped} problem={problem} apply={apply} />
      </div>
    </>
  );
}

interface FormProps {
  typed: { from: string; to: string };
  change: (typed: FormProps['typed']) => void;
  problem: string;
  apply: () => void;
}

function Form({ typed, change, problem, apply }: FormProps): JSX.Element {
  const hint = useId();
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        apply();
      }}
    >
      {(['from', 'to'] as const).map((name) => (
        <label key={name}>
          {name === 'from' ? 'From' : 'To'}
          <input
            class="mono"
            value={typed[name]}
            spellcheck={false}
            autocomplete="off"
            placeholder={name === 'from' ? '2026-11-24 14:05, or 2h' : 'now'}
            aria-describedby={hint}
            onInput={({ currentTarget }) => change({ ...typed, [name]: currentTarget.value })}
          />
        </label>
      ))}
      <p id={hint} class="faint">
        In {zoneName()}, or with a zone: 2026-11-24T14:05Z. 30m, 2h, 7d: that long ago.
      </p>
      {problem !== '' && (
        <p class="form-problem" role="alert">
          {problem}
        </p>
      )}
      <button class="small" type="submit">
        Show
      </button>
    </form>
  );
}

function shown(time: string | null): string {
  const millis = Date.parse(time ?? '');
  return Number.isNaN(millis) ? '' : typable(millis);
}

function problemOf(typed: { from: string; to: string }, from: number | undefined, to: number | undefined): string {
  if (from === undefined && to === undefined && typed.from.trim() + typed.to.trim() === '')
    return 'Type a time in one of them.';
  if (typed.from.trim() !== '' && from === undefined) return 'From: expected a time such as 2026-11-24 14:05.';
  if (typed.to.trim() !== '' && to === undefined) return 'To: expected a time such as 2026-11-24 14:05.';
  return from !== undefined && to !== undefined && from >= to ? 'To: expected a time after from.' : '';
}
