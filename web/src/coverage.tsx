import type { JSX } from 'preact';
import { useEffect } from 'preact/hooks';
import type { Coverage } from '../../agent/ui/api.ts';
import { Empty, Problem } from './parts.tsx';
import { useAnswer } from './server.ts';
import { grouped, Text } from './text.tsx';
import { ago } from './time.ts';

const REFRESH_MILLIS = 10_000;
const FEW_PODS = 5;
const NAMES = { ready: 'Inspecting', starting: 'Starting', impaired: 'Impaired', unknown: 'No answer' } as const;

function Encrypted({ nodes }: { nodes: Coverage['nodes'] }): JSX.Element | null {
  const rows = nodes.flatMap(({ name, encrypted = [] }) => encrypted.map((entry) => ({ node: name, ...entry })));
  if (rows.length === 0) return null;
  return (
    <section class="card">
      <h2 id="encrypted">Encrypted traffic, not inspected</h2>
      <div class="table-box" tabIndex={0} role="region" aria-labelledby="encrypted">
        <table>
          <thead>
            <tr>
              <th scope="col">Pod</th>
              <th scope="col">Node</th>
              <th scope="col">Bytes</th>
              <th scope="col">Of its traffic</th>
            </tr>
          </thead>
          <tbody>
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
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** Few are named at once; more are behind a click. */
function PodNames({ node: { pods = 0, podNames = [] } }: { node: Coverage['nodes'][number] }): JSX.Element | null {
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

export function CoveragePage(): JSX.Element {
  const answer = useAnswer<Coverage>('/api/coverage');
  useEffect(() => {
    const timer = setInterval(answer.reload, REFRESH_MILLIS);
    return () => clearInterval(timer);
  }, []);
  const { data } = answer;
  if (data === undefined) {
    return (
      <main class="page" aria-busy={answer.loading}>
        {answer.error !== undefined && <Problem error={answer.error} retry={answer.reload} />}
      </main>
    );
  }
  const nothing = data.nodes.length === 0 && data.resources.length === 0;
  return (
    <main class="page">
      {answer.error !== undefined && <Problem error={answer.error} retry={answer.reload} />}
      {data.problems.map((problem) => (
        <div key={problem} class="problem" role="alert">
          <Text>{problem}</Text>
        </div>
      ))}
      {nothing && data.problems.length === 0 && (
        <Empty icon="help" title="Nothing to show">
          <p>
            No agent is known here. Name some with <code>ui.agents</code>, or run the page where an agent runs, or in
            its cluster.
          </p>
        </Empty>
      )}
      {data.nodes.length > 0 && (
        <section class="card" aria-labelledby="nodes">
          <h2 id="nodes">Nodes</h2>
          <ul class="nodes">
            {data.nodes.map((node) => (
              <li key={node.name} class={`node node-${node.state}`}>
                <div class="node-head">
                  <strong>
                    <Text>{node.name}</Text>
                  </strong>
                  <span class={`health health-${node.state}`}>{NAMES[node.state]}</span>
                </div>
                <span class="faint">
                  {[
                    node.engine,
                    node.pods === undefined ? undefined : `${grouped(node.pods)} ${node.pods === 1 ? 'pod' : 'pods'}`,
                    node.rules === undefined ? undefined : `${grouped(node.rules)} rules`,
                  ]
                    .filter((part) => part !== undefined)
                    .join(' · ')}
                </span>
                <PodNames node={node} />
                {node.problems.length > 0 && (
                  <ul class="node-problems">
                    {node.problems.map((problem) => (
                      <li key={problem}>
                        <Text>{problem}</Text>
                      </li>
                    ))}
                  </ul>
                )}
              </li>
            ))}
          </ul>
        </section>
      )}
      <Encrypted nodes={data.nodes} />
      {data.resources.length > 0 && (
        <section class="card">
          <h2 id="resources">DeepPacketInspections</h2>
          <div class="table-box" tabIndex={0} role="region" aria-labelledby="resources">
            <table>
              <thead>
                <tr>
                  <th scope="col">Resource</th>
                  <th scope="col">Selector</th>
                  <th scope="col">Captured</th>
                  <th scope="col">Nodes</th>
                </tr>
              </thead>
              <tbody>
                {data.resources.map((resource) => (
                  <tr key={resource.key}>
                    <th scope="row">
                      <Text>{resource.key}</Text>
                    </th>
                    <td class="mono">
                      <Text>{resource.selector}</Text>
                      {resource.errors.map(({ node, message, timestamp }) => (
                        <p key={`${node}${message}`} class="resource-error">
                          <Text>{`${node}: ${message}`}</Text> <span class="faint">{ago(timestamp)}</span>
                        </p>
                      ))}
                    </td>
                    <td class={resource.podsCaptured < resource.podsSelected ? 'short-of' : ''}>
                      {grouped(resource.podsCaptured)} of {grouped(resource.podsSelected)} pods
                    </td>
                    <td>{grouped(resource.nodes)}</td>
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
