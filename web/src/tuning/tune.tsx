/** Makes alerts like one fewer: what, until when and why, and what it would have left out. */
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { AlertRow, TuneOutcome, TuneRequest, Tuned } from '../../../agent/ui/api.ts';
import { Icon } from '../parts.tsx';
import { AnswerError, send } from '../server.ts';
import { Text } from '../text.tsx';
import { OutcomeLines, type Tried } from './outcome.tsx';

const TYPING_MILLIS = 300;
const DAY_MILLIS = 86_400_000;

/** @param pod Where it was seen, as far as pods that take its place have it in common. */
export function TuneButton({ row, pod }: { row: AlertRow; pod: string }): JSX.Element {
  const [open, setOpen] = useState(false);
  return (
    <>
      <button type="button" aria-keyshortcuts="t" onClick={() => setOpen(true)}>
        <Icon name="tune" /> Tune…
      </button>
      {open && <TuneDialog row={row} pod={pod} close={() => setOpen(false)} />}
    </>
  );
}

/** As it is typed; empty texts are left out. */
type Typed = Required<Omit<TuneRequest, 'destination'>>;

function TuneDialog({ row, pod, close }: { row: AlertRow; pod: string; close: () => void }): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const [typed, setTyped] = useState(() => firstOf(row, pod));
  const [added, setAdded] = useState<Tuned>();
  const [problem, setProblem] = useState<string>();
  const request = requestOf(typed);
  const tried = useAttempt(request);
  useEffect(() => dialog.current?.showModal(), []);
  const failed = (error: unknown): void => setProblem(error instanceof AnswerError ? error.message : String(error));
  const save = (): void =>
    void send<Tuned>('POST', '/api/tuning', { entry: request, alert: row.id }).then((answer) => {
      setProblem(undefined);
      setAdded(answer);
    }, failed);
  return (
    <dialog ref={dialog} class="tune" aria-labelledby="tune-title" onClose={close}>
      <h2 id="tune-title">Fewer alerts like this</h2>
      <p class="faint">
        <Text>{row.message}</Text>
      </p>
      {added === undefined ? (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            save();
          }}
        >
          <Kind typed={typed} change={setTyped} />
          {typed.kind === 'off' ? null : <Criteria typed={typed} change={setTyped} />}
          <Why typed={typed} change={setTyped} />
          <OutcomeLines tried={tried} />
          {problem !== undefined && (
            <p class="form-problem" role="alert">
              {problem}
            </p>
          )}
          <div class="actions">
            <button class="primary" type="submit">
              Save
            </button>
            <button type="button" onClick={close}>
              Cancel
            </button>
          </div>
        </form>
      ) : (
        <Saved added={added} problem={problem} close={close} failed={failed} />
      )}
    </dialog>
  );
}

interface SavedProps {
  added: Tuned;
  problem: string | undefined;
  close: () => void;
  failed: (error: unknown) => void;
}

function Saved({ added, problem, close, failed }: SavedProps): JSX.Element {
  return (
    <>
      <p role="status">
        Saved as <code>{added.name}</code>. Agents follow it within seconds; from a ConfigMap, within two minutes.
      </p>
      {problem !== undefined && (
        <p class="form-problem" role="alert">
          {problem}
        </p>
      )}
      <div class="actions">
        <button class="primary" type="button" autofocus onClick={close}>
          Close
        </button>
        <button
          type="button"
          onClick={() => void send('DELETE', `/api/tuning/${encodeURIComponent(added.name)}`).then(close, failed)}
        >
          Undo
        </button>
      </div>
    </>
  );
}

interface PartProps {
  typed: Typed;
  change: (typed: Typed) => void;
}

function Why({ typed, change }: PartProps): JSX.Element {
  return (
    <label>
      Why
      <input
        autofocus
        required
        maxLength={500}
        value={typed.reason}
        placeholder="for who looks at it later"
        onInput={({ currentTarget }) => change({ ...typed, reason: currentTarget.value })}
      />
    </label>
  );
}

const KINDS = { suppress: 'Leave out', limit: 'Let a few pass', off: 'Turn the rule off' } as const;

function Kind({ typed, change }: PartProps): JSX.Element {
  return (
    <>
      <fieldset class="tune-kinds">
        <legend class="off-screen">What to do</legend>
        {(['suppress', 'limit', 'off'] as const).map((kind) => (
          <label key={kind}>
            <input type="radio" name="kind" checked={typed.kind === kind} onChange={() => change({ ...typed, kind })} />{' '}
            {KINDS[kind]}
          </label>
        ))}
      </fieldset>
      {typed.kind === 'limit' && <Limit typed={typed} change={change} />}
      {typed.kind === 'off' && (
        <p class="faint">
          <code>{typed.signature}</code> is no longer loaded by any agent, whatever else is said.
        </p>
      )}
    </>
  );
}

function Limit({ typed, change }: PartProps): JSX.Element {
  return (
    <div class="tune-row">
      <label>
        At most
        <input
          type="number"
          min={1}
          max={1_000_000}
          value={typed.count}
          onInput={({ currentTarget }) => change({ ...typed, count: currentTarget.valueAsNumber || 1 })}
        />
      </label>
      <label>
        In
        <select
          value={String(typed.seconds)}
          onChange={({ currentTarget }) => change({ ...typed, seconds: Number(currentTarget.value) })}
        >
          <option value="60">a minute</option>
          <option value="3600">an hour</option>
          <option value="86400">a day</option>
        </select>
      </label>
      <label>
        Of each
        <select
          value={typed.track}
          onChange={({ currentTarget }) =>
            change({ ...typed, track: TRACKS.find((name) => name === currentTarget.value) ?? 'by_source' })
          }
        >
          <option value="by_source">source</option>
          <option value="by_pod">pod</option>
          <option value="by_rule">rule</option>
        </select>
      </label>
    </div>
  );
}

const TRACKS = ['by_source', 'by_pod', 'by_rule'] as const;

function Criteria({ typed, change }: PartProps): JSX.Element {
  const field = (name: 'signature' | 'pod' | 'source' | 'days' | 'hours', label: string, hint: string): JSX.Element => (
    <label>
      {label}
      <input
        class="mono"
        value={typed[name]}
        placeholder={hint}
        spellcheck={false}
        onInput={({ currentTarget }) => change({ ...typed, [name]: currentTarget.value })}
      />
    </label>
  );
  return (
    <>
      <div class="tune-row">
        {field('signature', 'Signature', 'any')}
        {field('pod', 'Seen at pod', 'any, or shop/cart-*')}
        {field('source', 'From address or network', 'any, or 10.0.0.0/8')}
      </div>
      <div class="tune-row">
        {field('days', 'Days', 'all, or mon-fri')}
        {field('hours', 'Hours', 'all, or 22:00-06:00')}
        <label>
          Ends
          <input
            type="date"
            value={typed.until}
            min={dayAhead(0)}
            onInput={({ currentTarget }) => change({ ...typed, until: currentTarget.value })}
          />
        </label>
      </div>
      {typed.until === '' && <p class="faint">Without an end it stays until somebody takes it out.</p>}
    </>
  );
}

/** Of the pods that saw it, for a week. */
function firstOf(row: AlertRow, pod: string): Typed {
  return {
    kind: 'suppress',
    signature: `${row.gid}:${row.sid}`,
    pod,
    source: '',
    days: '',
    hours: '',
    until: dayAhead(7),
    reason: '',
    count: 1,
    seconds: 3600,
    track: 'by_source',
  };
}

/** `2027-01-31` */
function dayAhead(days: number): string {
  return new Date(Date.now() + days * DAY_MILLIS).toISOString().slice(0, 10);
}

function requestOf({ kind, signature, reason, count, seconds, track, ...criteria }: Typed): TuneRequest {
  if (kind === 'off') return { kind, signature, reason };
  const said = Object.entries({ signature, ...criteria }).filter(([, value]) => value.trim() !== '');
  const limit = kind === 'limit' ? { count, seconds, track } : {};
  return { kind, reason, ...Object.fromEntries(said), ...limit };
}

/** What it would have left out: asked when nothing is typed for a moment. */
function useAttempt(request: TuneRequest): Tried {
  const [tried, setTried] = useState<Tried>({});
  // Why it is done changes nothing.
  const entry = JSON.stringify({ ...request, reason: '-' });
  useEffect(() => {
    let current = true;
    const timer = setTimeout(() => {
      send<TuneOutcome>('POST', '/api/tuning/attempt', { entry: JSON.parse(entry) as object }).then(
        (outcome) => current && setTried({ outcome }),
        (error: unknown) => current && setTried({ problem: error instanceof Error ? error.message : String(error) }),
      );
    }, TYPING_MILLIS);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [entry]);
  return tried;
}
