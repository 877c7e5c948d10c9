/** Small parts that several pages have. */
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Level, Range, Reason, State } from '../../agent/ui/api.ts';
import { FIELDS } from '../../agent/ui/language/fields.ts';
import type { AnswerError } from './server.ts';
import { Text } from './text.tsx';

const PATHS = {
  search: 'M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14m9 16-4-4',
  close: 'M6 6l12 12M18 6 6 18',
  help: 'M9.1 9a3 3 0 1 1 4.6 2.6c-1 .7-1.7 1.3-1.7 2.4m0 3.2v.1M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18',
  sun: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8m0-6v2m0 16v2M4.9 4.9l1.4 1.4m11.4 11.4 1.4 1.4M2 12h2m16 0h2M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4',
  moon: 'M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5',
  half: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18m0 0v18m0-14 5.5-1.5M12 12h9m-9 5 5.5 1.5',
  filter: 'M4 5h16M7 12h10m-7 7h4',
  arrow: 'M4 12h15m-5-5 5 5-5 5',
  check: 'M5 12.5 10 17 19 7',
  dismiss: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M5.7 5.7l12.6 12.6',
  reopen: 'M4 5v5h5m-5 0a8.5 8.5 0 1 1-.5 5',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  out: 'M14 4h6v6m0-6-9 9M10 5H4v15h15v-6',
  more: 'M5 12h.1M12 12h.1M19 12h.1',
  tune: 'M4 7h9m4 0h3M4 17h3m4 0h9M15 4.5v5M9 14.5v5',
  clock: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18m0 4v5l3.5 2',
  star: 'm12 3.5 2.6 5.4 5.9.8-4.3 4.1 1 5.9-5.2-2.9-5.2 2.9 1-5.9-4.3-4.1 5.9-.8z',
  print: 'M7 9V3h10v6M7 17H4V9h16v8h-3M7 14h10v7H7z',
  shield: 'M12 3 4.5 6v5.5c0 4.5 3 8 7.5 9.5 4.5-1.5 7.5-5 7.5-9.5V6zm-3.5 9 2.5 2.5 4.5-5',
} as const;

export function Icon({ name }: { name: keyof typeof PATHS }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 24 24" width="18" height="18" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

export const LEVEL_NAMES: Record<Level, string> = { critical: 'Critical', high: 'High', medium: 'Medium', low: 'Low' };
export const STATE_NAMES: Record<State, string> = {
  open: 'Open',
  acknowledged: 'Acknowledged',
  dismissed: 'Dismissed',
};

export const REASON_NAMES: Record<Reason, string> = {
  'false-positive': 'False positive',
  expected: 'Expected',
  'accepted-risk': 'Accepted risk',
  duplicate: 'Duplicate',
  remedied: 'Remedied',
};

export const RANGE_NAMES: Record<Range, string> = {
  '15m': 'Last 15 minutes',
  '1h': 'Last hour',
  '6h': 'Last 6 hours',
  '24h': 'Last 24 hours',
  '7d': 'Last 7 days',
  '30d': 'Last 30 days',
  all: 'All time',
};

export function LevelBadge({ level }: { level: Level }): JSX.Element {
  return <span class={`level level-${level}`}>{LEVEL_NAMES[level]}</span>;
}

/** @param retry What may help; @param again and what that is called. */
export function Problem({
  error,
  retry,
  again = 'Try again',
}: {
  error: AnswerError;
  retry: () => void;
  again?: string;
}): JSX.Element {
  return (
    <div class="problem" role="alert">
      <p>
        <strong>{error.status === 0 ? 'No answer' : 'That did not work'}</strong>
      </p>
      <p>{error.message}</p>
      <button type="button" onClick={retry}>
        {again}
      </button>
    </div>
  );
}

interface EmptyProps {
  /** `shield`: that there is nothing is good. */
  icon: 'shield' | 'search' | 'help';
  title: string;
  children: ComponentChildren;
}

export function Empty({ icon, title, children }: EmptyProps): JSX.Element {
  return (
    <div class={`empty empty-${icon}`}>
      <Icon name={icon} />
      <h2>{title}</h2>
      <div>{children}</div>
    </div>
  );
}

interface TableProps {
  /** The id of its heading. */
  labelledBy: string;
  columns: readonly string[];
  /** Its rows. */
  children: ComponentChildren;
}

/** Scrolls by itself where the window is narrow. */
export function Table({ labelledBy, columns, children }: TableProps): JSX.Element {
  return (
    <div class="table-box" tabIndex={0} role="region" aria-labelledby={labelledBy}>
      <table>
        <thead>
          <tr>
            {columns.map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

interface TextProblemProps {
  text: string;
  position: number;
  message: string;
}

/** Why a text can't be read, with a mark below the place. */
export function TextProblem({ text, position, message }: TextProblemProps): JSX.Element {
  return (
    <>
      <p>
        <Text>{message}</Text>
      </p>
      <pre>{`${text}\n${' '.repeat(position)}^`}</pre>
    </>
  );
}

export function Skeleton(): JSX.Element {
  return (
    <div class="skeleton" role="status" aria-label="Loading">
      {Array.from({ length: 6 }, (_, index) => (
        <div key={index} />
      ))}
    </div>
  );
}

const KEYS: [string, string][] = [
  ['j k ↓ ↑', 'Next, previous alert'],
  ['Shift ↓ ↑', 'Choose those that are passed'],
  ['Enter', 'Open the alert'],
  ['Esc', 'Close, or leave the search field'],
  ['/', 'Search'],
  ['x', 'Choose the alert'],
  ['*', 'Choose all that match'],
  ['s', 'Only alerts of its signature'],
  ['a', 'Acknowledge'],
  ['d', 'Dismiss'],
  ['o', 'Open again'],
  ['u', 'Undo the last of these'],
  ['t i', 'Tune, isolate: of the alert that is open'],
  ['?', 'This help'],
];

export function Help({ open, close }: { open: boolean; close: () => void }): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClose={close}>
      <h2 id="help-title" tabIndex={-1} autofocus>
        Keyboard
      </h2>
      <p class="faint">For the alert that is open, else those that are chosen, else the one that is marked.</p>
      <dl>
        {KEYS.map(([keys, what]) => (
          <div key={keys}>
            <dt>
              {keys.split(' ').map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <Language />
      <button type="button" onClick={close}>
        Close
      </button>
    </dialog>
  );
}

/** What the search field takes. */
function Language(): JSX.Element {
  return (
    <>
      <h2>Search</h2>
      <p class="faint">
        Words, each somewhere in the alert; <code>"a text"</code> as it is; an address, a network, <code>1:21562</code>,{' '}
        <code>shop/cart-0</code>. With <code>and</code>, <code>or</code>, <code>not</code>, <code>( )</code> and{' '}
        <code>*</code>, and by fields:
      </p>
      <dl class="fields">
        {[...FIELDS].map(([name, { about, example }]) => (
          <div key={name}>
            <dt>
              <code>{example}</code>
            </dt>
            <dd>{about}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}

export function CopyButton({ text, children }: { text: () => string; children: string }): JSX.Element {
  const [copied, setCopied] = useState<'yes' | 'no'>();
  useEffect(() => {
    if (copied === undefined) return undefined;
    const timer = setTimeout(() => setCopied(undefined), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <button
      type="button"
      class="small"
      onClick={() => void copy(text()).then((done) => setCopied(done ? 'yes' : 'no'))}
    >
      <Icon name={copied === 'yes' ? 'check' : 'copy'} />
      <span aria-live="polite">{copied === undefined ? children : copied === 'yes' ? 'Copied' : 'Not permitted'}</span>
    </button>
  );
}

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without TLS there is no clipboard, but this.
    const area = document.createElement('textarea');
    area.value = text;
    area.setAttribute('readonly', '');
    area.className = 'off-screen';
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}
