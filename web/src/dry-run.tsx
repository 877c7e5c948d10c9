import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { DryRun } from '../../agent/ui/api.ts';
import { Problem } from './parts.tsx';
import { useAnswer } from './server.ts';
import { grouped, Text } from './text.tsx';
import type { Location } from './url.ts';

export function DryRunPage({ place }: { place: Location }): JSX.Element {
  const namespace = place.params.get('namespace') ?? 'default';
  const selector = place.params.get('selector') ?? '';
  const [typed, setTyped] = useState({ namespace, selector });
  const query = new URLSearchParams({ namespace, selector });
  const answer = useAnswer<DryRun>(selector === '' ? undefined : `/api/dry-run?${query}`);
  const position = answer.error?.body['position'];
  const selected = answer.data?.pods.filter((pod) => pod.selected).length ?? 0;
  return (
    <main class="page" aria-busy={answer.loading}>
      <section class="card">
        <h2>What would a selector inspect?</h2>
        <form
          class="try"
          onSubmit={(event) => {
            event.preventDefault();
            place.change((params) => {
              params.set('namespace', typed.namespace.trim());
              params.set('selector', typed.selector.trim());
            });
          }}
        >
          <label>
            Namespace
            <input
              value={typed.namespace}
              required
              spellcheck={false}
              onInput={(event) => setTyped({ ...typed, namespace: event.currentTarget.value })}
            />
          </label>
          <label class="grow">
            Selector
            <input
              class="mono"
              value={typed.selector}
              required
              spellcheck={false}
              placeholder="app == 'backend' && tier in { 'web', 'api' }"
              aria-invalid={typeof position === 'number'}
              onInput={(event) => setTyped({ ...typed, selector: event.currentTarget.value })}
            />
          </label>
          <button class="primary" type="submit">
            Try
          </button>
        </form>
        <p class="hint">
          The selector of a DeepPacketInspection in this namespace. Nothing is changed, and nothing is inspected.
        </p>
        {answer.error !== undefined &&
          (typeof position === 'number' ? (
            <div class="problem" role="alert">
              <p>
                <Text>{answer.error.message}</Text>
              </p>
              <pre>{`${selector}\n${' '.repeat(position)}^`}</pre>
            </div>
          ) : (
            <Problem error={answer.error} retry={answer.reload} />
          ))}
      </section>
      {answer.data !== undefined && answer.error === undefined && (
        <section class="card">
          <h2 id="tried">
            Selects {grouped(selected)} of {grouped(answer.data.pods.length)} pods in{' '}
            <Text>{answer.data.namespace}</Text>
          </h2>
          <div class="table-box" tabIndex={0} role="region" aria-labelledby="tried">
            <table>
              <thead>
                <tr>
                  <th scope="col">Pod</th>
                  <th scope="col">Inspected</th>
                  <th scope="col">Node</th>
                  <th scope="col">Why</th>
                </tr>
              </thead>
              <tbody>
                {answer.data.pods.map((pod) => (
                  <tr key={pod.name} class={pod.selected ? '' : 'faint'}>
                    <th scope="row">
                      <Text>{pod.name}</Text>
                    </th>
                    <td>{pod.inspected ? 'yes' : pod.selected ? 'selected, but no' : 'no'}</td>
                    <td>
                      <Text>{pod.node}</Text>
                    </td>
                    <td>
                      <Text>{pod.why ?? ''}</Text>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </section>
      )}
    </main>
  );
}
