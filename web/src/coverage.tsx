/** What is inspected: by node, by resource, and what is encrypted. */
import type { JSX } from 'preact';
import { useEffect } from 'preact/hooks';
import type { Coverage } from '../../agent/ui/api.ts';
import { Empty, Problem, Table } from './parts.tsx';
import { useAnswer } from './server.ts';
import { grouped, Text } from './text.tsx';
import { ago } from './time.ts';

const REFRESH_MILLIS = 10_000;
const FEW_PODS = 5;
const NAMES = { ready: 'Inspecting', starting: 'Starting', impaired: 'Impaired', unknown: 'No answer' } as const;

type CoveredNode = Coverage['nodes'][number];

export function CoveragePage(): JSX.Element {
  const { data, error, loading, reload } = useAnswer<Coverage>('/api/coverage');
  useEffect(() => {
    const timer = setInterval(reload, REFRESH_MILLIS);
    return () => clearInterval(timer);
  }, []);
  const problem = error !== undefined && <Problem error={error} retry={reload} />;
  if (data === undefined) {
    return (
      <main class="page" aria-busy={loading}>
        {problem}
      </main>
    );
  }
  const { nodes, resources, problems } = data;
  return (
    <main class="page">
      {problem}
      {problems.map((text) => (
        <div key={text} class="problem" role="alert">
          <Text>{text}</Text>
        </div>
      ))}
      {nodes.length + resources.length + problems.length === 0 && <NoAgents />}
      <Nodes nodes={nodes} />
      <Encrypted nodes={nodes} />
      <Resources resources={resources} />
    </main>
  );
}

function NoAgents(): JSX.Element {
  return (
    <Empty icon="help" title="Nothing to show">
      <p>
        No agent is known here. Name some with <code>ui.agents</code>, or run the page where an agent runs, or in its
        cluster.
      </p>
    </Empty>
  );
}

function Nodes({ nodes }: { nodes: readonly CoveredNode[] }): JSX.Element | null {
  if (nodes.length === 0) return null;
  return (
    <section class="card" aria-labelledby="nodes">
      <h2 id="nodes">Nodes</h2>
      <ul class="nodes">
        {nodes.map((node) => (
          <NodeCard key={node.name} node={node} />
        ))}
      </ul>
    </section>
  );
}

function NodeCard({ node }: { node: CoveredNode }): JSX.Element {
  const { name, state, engine, pods, rules, problems } = node;
  const facts = [
    engine,
    pods === undefined ? undefined : `${grouped(pods)} ${pods === 1 ? 'pod' : 'pods'}`,
    rules === undefined ? undefined : `${grouped(rules)} rules`,
  ];
  return (
    <li class={`node node-${state}`}>
      <div class="node-head">
        <strong>
          <Text>{name}</Text>
        </strong>
        <span class={`health health-${state}`}>{NAMES[state]}</span>
      </div>
      <span class="faint">{facts.filter((fact) => fact !== undefined).join(' · ')}</span>
      <PodNames node={node} />
      {problems.length > 0 && (
        <ul class="node-problems">
          {problems.map((problem) => (
            <li key={problem}>
              <Text>{problem}</Text>
            </li>
          ))}
        </ul>
      )}
    </li>
  );
}

/** Few are named at once; more are behind a click. */
function PodNames({ node: { pods = 0, podNames = [] } }: { node: CoveredNode }): JSX.Element | null {
  if (podNames.length === 0) return null;
  const names = (
    <ul class="pod-names">
      {podNames.map((name) => (
        <li key={name}>
          <Text>{name}</Text>
        </li>
      ))}
      {pods > podNames.length && <li class="faint">and {grouped(pods - podNames.length)} more</li>}
    </ul>
  );
  if (podNames.length <= FEW_PODS) return names;
  return (
    <details>
      <summary>Which pods</summary>
      {names}
    </details>
  );
}

function Encrypted({ nodes }: { nodes: readonly CoveredNode[] }): JSX.Element | null {
  const rows = nodes.flatMap(({ name, encrypted = [] }) => encrypted.map((entry) => ({ node: name, ...entry })));
  if (rows.length === 0) return null;
  return (
    <section class="card">
      <h2 id="encrypted">Encrypted traffic, not inspected</h2>
      <Table labelledBy="encrypted" columns={['Pod', 'Node', 'Bytes', 'Of its traffic']}>
        {rows.map(({ node, pod, bytes, share }) => (
          <tr key={`${node} ${pod}`}>
            <th scope="row">
              <Text>{pod}</Text>
            </th>
            <td>
              <Text>{node}</Text>
            </td>
            <td>{grouped(bytes)}</td>
            <td>{share < 0.001 ? '< 0.1' : (100 * share).toFixed(1)} %</td>
          </tr>
        ))}
      </Table>
    </section>
  );
}

function Resources({ resources }: { resources: Coverage['resources'] }): JSX.Element | null {
  if (resources.length === 0) return null;
  return (
    <section class="card">
      <h2 id="resources">DeepPacketInspections</h2>
      <Table labelledBy="resources" columns={['Resource', 'Selector', 'Captured', 'Nodes']}>
        {resources.map(({ key, selector, errors, podsCaptured, podsSelected, nodes }) => (
          <tr key={key}>
            <th scope="row">
              <Text>{key}</Text>
            </th>
            <td class="mono">
              <Text>{selector}</Text>
              {errors.map(({ node, message, timestamp }) => (
                <p key={`${node}${message}`} class="resource-error">
                  <Text>{`${node}: ${message}`}</Text> <span class="faint">{ago(timestamp)}</span>
                </p>
              ))}
            </td>
            <td class={podsCaptured < podsSelected ? 'short-of' : ''}>
              {grouped(podsCaptured)} of {grouped(podsSelected)} pods
            </td>
            <td>{grouped(nodes)}</td>
          </tr>
        ))}
      </Table>
    </section>
  );
}
