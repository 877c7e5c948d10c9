/** Pods that are cut off the network: until when, by whom and why, each to be released. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { IsolatedPod } from '../../agent/ui/api.ts';
import { Empty, Problem, Skeleton, Table } from './parts.tsx';
import { answerErrorOf, send, useAnswer, type AnswerError } from './server.ts';
import { Text } from './text.tsx';
import { fullMoment } from './time.ts';
import type { Location } from './url.ts';

export function IsolatedPage({ place }: { place: Location }): JSX.Element {
  const namespace = place.params.get('namespace') ?? '';
  const query = namespace === '' ? '' : `?${new URLSearchParams({ namespace })}`;
  const { data, error, loading, reload } = useAnswer<{ isolations: IsolatedPod[] }>(`/api/isolations${query}`);
  const [failed, setFailed] = useState<AnswerError>();
  const release = ({ namespace: of, pod }: IsolatedPod): void =>
    void send('POST', '/api/isolations/release', { namespace: of, pod, reason: 'from the Alerts page' }).then(
      () => {
        setFailed(undefined);
        reload();
      },
      (reason: unknown) => setFailed(answerErrorOf(reason)),
    );
  const problem = error ?? failed;
  return (
    <main class="page" aria-busy={loading}>
      <section class="card">
        <h2 id="isolated">Isolated pods</h2>
        <NamespaceForm place={place} namespace={namespace} />
        {problem !== undefined && <Problem error={problem} retry={reload} />}
        {data === undefined && error === undefined && <Skeleton />}
        {data !== undefined && error === undefined && <Isolations isolations={data.isolations} release={release} />}
      </section>
    </main>
  );
}

/** Who may list them in one namespace names it. */
function NamespaceForm({ place, namespace }: { place: Location; namespace: string }): JSX.Element {
  const [typed, setTyped] = useState(namespace);
  return (
    <form
      class="try"
      onSubmit={(event) => {
        event.preventDefault();
        const wanted = typed.trim();
        place.change((params) => (wanted === '' ? params.delete('namespace') : params.set('namespace', wanted)));
      }}
    >
      <label>
        <span>Namespace</span>
        <input
          name="namespace"
          placeholder="all"
          value={typed}
          maxLength={63}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      </label>
      <button type="submit">Show</button>
    </form>
  );
}

interface IsolationsProps {
  isolations: IsolatedPod[];
  release: (isolated: IsolatedPod) => void;
}

function Isolations({ isolations, release }: IsolationsProps): JSX.Element {
  if (isolations.length === 0)
    return (
      <Empty icon="shield" title="No pod is isolated">
        <p>
          <em>Isolate…</em> on an alert cuts its pod off the network.
        </p>
      </Empty>
    );
  return (
    <Table labelledBy="isolated" columns={['Pod', 'Since', 'Until', 'Lets through', 'Why', 'By', 'Release']}>
      {isolations.map((isolated) => (
        <tr key={`${isolated.namespace}/${isolated.pod}`}>
          <th scope="row">
            <Text>{`${isolated.namespace}/${isolated.pod}`}</Text>
          </th>
          <td>{fullMoment(isolated.since)}</td>
          <td>{fullMoment(isolated.until)}</td>
          <td>{isolated.allow === 'dns' ? 'DNS' : 'nothing'}</td>
          <td>
            <Text>{isolated.reason}</Text>
            {isolated.alert !== undefined && (
              <div>
                <a href={`?${new URLSearchParams({ range: 'all', alert: isolated.alert })}`}>its alert</a>
              </div>
            )}
          </td>
          <td>
            <Text>{isolated.by}</Text>
          </td>
          <td>
            <button
              class="small"
              type="button"
              aria-label={`Release ${isolated.namespace}/${isolated.pod}`}
              onClick={() => release(isolated)}
            >
              Release
            </button>
          </td>
        </tr>
      ))}
    </Table>
  );
}
