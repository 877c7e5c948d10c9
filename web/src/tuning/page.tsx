/** What makes alerts fewer, by whom and why, each to be taken out. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { Tuned } from '../../../agent/ui/api.ts';
import { Empty, Problem, Skeleton, Table } from '../parts.tsx';
import { AnswerError, send, useAnswer } from '../server.ts';
import { Text } from '../text.tsx';
import { fullMoment } from '../time.ts';

interface Answer {
  where: string;
  entries: Tuned[];
}

const KIND_NAMES: Record<Tuned['kind'], string> = { suppress: 'left out', threshold: 'limited', off: 'rule off' };

export function TuningPage(): JSX.Element {
  const { data, error, loading, reload } = useAnswer<Answer>('/api/tuning');
  const [failed, setFailed] = useState<AnswerError>();
  const remove = (name: string): void =>
    void send('DELETE', `/api/tuning/${encodeURIComponent(name)}`).then(
      () => {
        setFailed(undefined);
        reload();
      },
      (reason: unknown) => setFailed(reason instanceof AnswerError ? reason : new AnswerError(0, String(reason), {})),
    );
  const problem = error ?? failed;
  return (
    <main class="page" aria-busy={loading}>
      <section class="card">
        <h2 id="tuned">What makes alerts fewer</h2>
        {problem !== undefined && <Problem error={problem} retry={reload} />}
        {data === undefined && error === undefined && <Skeleton />}
        {data !== undefined && (
          <>
            <p class="faint">
              Kept in <Text>{data.where}</Text>. <em>Tune…</em> on an alert adds to it.
            </p>
            {data.entries.length === 0 ? (
              <Empty icon="shield" title="Nothing is left out">
                <p>No alert is suppressed or limited, and no rule is turned off by its signature.</p>
              </Empty>
            ) : (
              <Entries entries={data.entries} remove={remove} />
            )}
          </>
        )}
      </section>
    </main>
  );
}

function Entries({ entries, remove }: { entries: Tuned[]; remove: (name: string) => void }): JSX.Element {
  return (
    <Table labelledBy="tuned" columns={['Name', 'What', 'Of', 'Until', 'Why', 'By', 'Take out']}>
      {entries.map((entry) => (
        <tr key={entry.name} class={entry.over ? 'faint' : ''}>
          <th scope="row">{entry.name}</th>
          <td>{KIND_NAMES[entry.kind]}</td>
          <td class="mono">
            {Object.entries(entry.says).map(([key, value]) => (
              <div key={key}>
                {key}: <Text>{value}</Text>
              </div>
            ))}
          </td>
          <td>
            <Text>{entry.until ?? ''}</Text>
            {entry.over && ' (over)'}
          </td>
          <td>
            <Text>{entry.reason ?? ''}</Text>
          </td>
          <td>
            <Text>{entry.by ?? ''}</Text>
            {entry.at !== undefined && <div class="faint">{fullMoment(entry.at)}</div>}
          </td>
          <td>
            <button
              class="small"
              type="button"
              aria-label={`Take out ${entry.name}`}
              onClick={() => remove(entry.name)}
            >
              Take out
            </button>
          </td>
        </tr>
      ))}
    </Table>
  );
}
