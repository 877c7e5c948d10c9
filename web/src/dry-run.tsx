/** Which pods a selector would select, before there is a resource that has it. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { DryRun } from '../../agent/ui/api.ts';
import { Problem, Table, TextProblem } from './parts.tsx';
import { useAnswer, type AnswerError } from './server.ts';
import { grouped, Text } from './text.tsx';
import type { Location } from './url.ts';

export function DryRunPage({ place }: { place: Location }): JSX.Element {
  const namespace = place.params.get('namespace') ?? 'default';
  const selector = place.params.get('selector') ?? '';
  const query = new URLSearchParams({ namespace, selector });
  const { data, error, loading, reload } = useAnswer<DryRun>(selector === '' ? undefined : `/api/dry-run?${query}`);
  const position = positionOf(error);
  return (
    <main class="page" aria-busy={loading}>
      <section class="card">
        <h2>What would a selector inspect?</h2>
        <SelectorForm place={place} namespace={namespace} selector={selector} invalid={position !== undefined} />
        <p class="hint">
          The selector of a DeepPacketInspection in this namespace. Nothing is changed, and nothing is inspected.
        </p>
        {error !== undefined && position === undefined && <Problem error={error} retry={reload} />}
        {error !== undefined && position !== undefined && (
          <div class="problem" role="alert">
            <TextProblem text={selector} position={position} message={error.message} />
          </div>
        )}
      </section>
      {data !== undefined && error === undefined && <Selected answer={data} />}
    </main>
  );
}

/** Where the selector can't be read; undefined: something else went wrong. */
function positionOf(error: AnswerError | undefined): number | undefined {
  const position = error?.body['position'];
  return typeof position === 'number' ? position : undefined;
}

interface FormProps {
  place: Location;
  namespace: string;
  selector: string;
  invalid: boolean;
}

function SelectorForm({ place, namespace, selector, invalid }: FormProps): JSX.Element {
  const [typed, setTyped] = useState({ namespace, selector });
  return (
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
          aria-invalid={invalid}
          onInput={(event) => setTyped({ ...typed, selector: event.currentTarget.value })}
        />
      </label>
      <button class="primary" type="submit">
        Try
      </button>
    </form>
  );
}

function Selected({ answer: { pods, namespace } }: { answer: DryRun }): JSX.Element {
  const selected = pods.filter((pod) => pod.selected).length;
  return (
    <section class="card">
      <h2 id="tried">
        Selects {grouped(selected)} of {grouped(pods.length)} pods in <Text>{namespace}</Text>
      </h2>
      <Table labelledBy="tried" columns={['Pod', 'Inspected', 'Node', 'Why']}>
        {pods.map((pod) => (
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
      </Table>
    </section>
  );
}
