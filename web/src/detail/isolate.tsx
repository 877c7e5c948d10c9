/** Cuts the alert's pod off the network: says first what would be cut, and does it when asked once more. */
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { AlertRow, End, IsolatedPod, IsolationAnswer, Page } from '../../../agent/ui/api.ts';
import { Problem } from '../parts.tsx';
import { answerErrorOf, ask, send, useAnswer, type AnswerError } from '../server.ts';
import { Text } from '../text.tsx';
import { fullMoment } from '../time.ts';
import { fields, text } from './fields.ts';

const HOUR = 3_600_000;
const TIMES = [
  [HOUR, '1 hour'],
  [4 * HOUR, '4 hours'],
  [24 * HOUR, '24 hours'],
] as const;
const MAX_PEERS = 10;

interface Pod {
  namespace: string;
  name: string;
}

/** The pods at which the alert was seen. */
export function podsOf(seenAt: unknown): Pod[] {
  if (!Array.isArray(seenAt)) return [];
  return seenAt.flatMap((place) => {
    const [namespace, name] = [text(fields(place)['namespace']), text(fields(place)['name'])];
    return namespace === '' || name === '' ? [] : [{ namespace, name }];
  });
}

export function Isolate({ row, seenAt }: { row: AlertRow; seenAt: unknown }): JSX.Element | null {
  const [chosen, setChosen] = useState<Pod>();
  const pods = podsOf(seenAt);
  if (chosen !== undefined) return <Asking pod={chosen} row={row} close={() => setChosen(undefined)} />;
  if (pods.length === 0) return null;
  return (
    <div class="actions">
      {pods.map((pod) => (
        <button key={`${pod.namespace}/${pod.name}`} type="button" aria-keyshortcuts="i" onClick={() => setChosen(pod)}>
          Isolate <Text>{`${pod.namespace}/${pod.name}`}</Text>…
        </button>
      ))}
    </div>
  );
}

interface AskingProps {
  pod: Pod;
  row: AlertRow;
  close: () => void;
}

/** What is known before anything is done. */
interface Before {
  answer?: IsolationAnswer;
  isolated?: IsolatedPod;
  error?: AnswerError;
}

function Asking({ pod, row, close }: AskingProps): JSX.Element {
  const [before, setBefore] = useState<Before>();
  const [turn, setTurn] = useState(0);
  const heading = useRef<HTMLHeadingElement>(null);
  const about = { namespace: pod.namespace, pod: pod.name };
  useEffect(() => heading.current?.focus(), []);
  useEffect(() => {
    setBefore(undefined);
    const dry = { ...about, forMillis: HOUR, reason: 'to see what would be cut', dryRun: true };
    lookAt(dry).then(setBefore, (error: unknown) => setBefore({ error: answerErrorOf(error) }));
  }, [pod.namespace, pod.name, turn]);
  return (
    <section class="card isolate" aria-labelledby="isolate-title" aria-busy={before === undefined}>
      <h3 id="isolate-title" ref={heading} tabIndex={-1}>
        Isolate <Text>{`${pod.namespace}/${pod.name}`}</Text>
      </h3>
      {before?.error !== undefined && <Problem error={before.error} retry={() => setTurn((number) => number + 1)} />}
      {before?.isolated !== undefined && <Isolated isolated={before.isolated} done={() => setTurn((n) => n + 1)} />}
      {before?.answer !== undefined && before.isolated === undefined && (
        <>
          <WhatIsCut cut={before.answer.cut} />
          <Peers pod={pod} />
          <Confirm cut={before.answer.cut} row={row} done={(isolated) => setBefore({ ...before, isolated })} />
        </>
      )}
      <button type="button" onClick={close}>
        Close
      </button>
    </section>
  );
}

async function lookAt(dry: { namespace: string; pod: string }): Promise<Before> {
  const there = await fetchIsolations(dry.namespace);
  const isolated = there.find(({ pod }) => pod === dry.pod);
  const answer = await send<IsolationAnswer>('POST', '/api/isolations', dry);
  return { answer, ...(isolated === undefined ? {} : { isolated }) };
}

async function fetchIsolations(namespace: string): Promise<IsolatedPod[]> {
  const query = new URLSearchParams({ namespace });
  return (await ask<{ isolations: IsolatedPod[] }>(`/api/isolations?${query}`)).isolations;
}

function WhatIsCut({ cut }: { cut: IsolationAnswer['cut'] }): JSX.Element {
  return (
    <ul>
      <li>
        All traffic to and from <Text>{cut.addresses.join(', ') || 'it'}</Text>, by a policy of{' '}
        <Text>{cut.engine}</Text>
      </li>
      {cut.services.map(({ name, others }) => (
        <li key={name}>
          Service <Text>{name}</Text>: {others === 0 ? 'no other pod is ready' : `${others} other ready pods`}
        </li>
      ))}
      {cut.open.map(({ policy, direction }) => (
        <li key={`${policy} ${direction}`}>
          <strong>Stays open:</strong> {direction} that policy <Text>{policy}</Text> allows
        </li>
      ))}
      {cut.open.length > 0 && (
        <li class="faint">
          To cut that, too:{' '}
          <code>
            dpi-agent respond isolate <Text>{`${cut.namespace}/${cut.pod}`}</Text> --detach
          </code>
        </li>
      )}
      {cut.notes.map((note) => (
        <li key={note} class="faint">
          <Text>{note}</Text>
        </li>
      ))}
    </ul>
  );
}

/** With whom it talked, as far as alerts tell. */
function Peers({ pod: { namespace, name } }: { pod: Pod }): JSX.Element | null {
  const query = new URLSearchParams({ pod: `${namespace}/${name}`, range: '24h', size: '200' });
  const { data } = useAnswer<Page>(`/api/alerts?${query}`);
  const isIt = (end: End): boolean => end.namespace === namespace && end.name === name;
  const peers = new Set(
    (data?.rows ?? []).map(({ source, destination }) => {
      const other = isIt(source) ? destination : source;
      return other.name === undefined ? other.ip : `${other.namespace ?? ''}/${other.name}`;
    }),
  );
  if (peers.size === 0) return null;
  const shown = [...peers].slice(0, MAX_PEERS).join(', ');
  return (
    <p class="faint">
      In alerts of the last 24 hours it talked with <Text>{shown}</Text>
      {peers.size > MAX_PEERS && ` and ${peers.size - MAX_PEERS} others`}
    </p>
  );
}

interface ConfirmProps {
  cut: IsolationAnswer['cut'];
  row: AlertRow;
  done: (isolated: IsolatedPod) => void;
}

function Confirm({ cut: { namespace, pod, open }, row, done }: ConfirmProps): JSX.Element {
  const [forMillis, setFor] = useState<number>(HOUR);
  const [allow, setAllow] = useState<'nothing' | 'dns'>('nothing');
  const [reason, setReason] = useState(row.message.slice(0, 500));
  const [partly, setPartly] = useState(false);
  const [error, setError] = useState<AnswerError>();
  const act = async (): Promise<void> => {
    const wish = { namespace, pod, allow, forMillis, reason, alert: row.id, partly, dryRun: false };
    try {
      const { isolation } = await send<IsolationAnswer>('POST', '/api/isolations', wish);
      if (isolation !== undefined) done(isolation);
    } catch (failed) {
      setError(answerErrorOf(failed));
    }
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void act();
      }}
    >
      <label>
        For{' '}
        <select value={forMillis} onChange={(event) => setFor(Number(event.currentTarget.value))}>
          {TIMES.map(([millis, name]) => (
            <option key={millis} value={millis}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        <input
          type="checkbox"
          checked={allow === 'dns'}
          onChange={() => setAllow(allow === 'dns' ? 'nothing' : 'dns')}
        />{' '}
        let DNS through
      </label>
      <label class="reason">
        Reason
        <input value={reason} required maxLength={500} onInput={(event) => setReason(event.currentTarget.value)} />
      </label>
      {open.length > 0 && (
        <label>
          <input type="checkbox" checked={partly} required onChange={() => setPartly(!partly)} /> cut the rest, although
          this stays open
        </label>
      )}
      {error !== undefined && <Problem error={error} retry={() => void act()} />}
      <button class="primary" type="submit">
        Isolate it now
      </button>
    </form>
  );
}

function Isolated({ isolated, done }: { isolated: IsolatedPod; done: () => void }): JSX.Element {
  const { namespace, pod, until, by, reason } = isolated;
  const [error, setError] = useState<AnswerError>();
  const release = async (): Promise<void> => {
    try {
      await send('POST', '/api/isolations/release', { namespace, pod, reason: 'from the Alerts page' });
      done();
    } catch (failed) {
      setError(answerErrorOf(failed));
    }
  };
  return (
    <>
      <p role="status">
        Isolated until {fullMoment(until)} by <Text>{by}</Text>: <Text>{reason}</Text>
      </p>
      {error !== undefined && <Problem error={error} retry={() => void release()} />}
      <button class="primary" type="button" onClick={() => void release()}>
        Release it
      </button>
    </>
  );
}
