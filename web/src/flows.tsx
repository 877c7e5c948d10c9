/** Who attacks whom: drawn, by namespaces as rows and columns, and the top sources. */
import type { ComponentChildren, JSX } from 'preact';
import { LEVELS, type Flows, type Level, type Pair, type Talker } from '../../agent/ui/api.ts';
import { Graph } from './graph.tsx';
import { LEVEL_NAMES, Skeleton } from './parts.tsx';
import { grouped, short, Text } from './text.tsx';
import { narrow, narrowEnd, type Location } from './url.ts';

/** What is no namespace's. */
const OUTSIDE = 'outside';

interface ViewProps {
  flows: Flows | undefined;
  place: Location;
  empty: ComponentChildren;
}

export function FlowsView({ flows, place, empty }: ViewProps): JSX.Element {
  if (flows === undefined) return <Skeleton />;
  if (flows.pairs.length === 0) return <>{empty}</>;
  return (
    <div class="flows">
      <Graph flows={flows} place={place} />
      <Matrix pairs={flows.pairs} place={place} />
      <Talkers talkers={flows.talkers} place={place} />
    </div>
  );
}

function Matrix({ pairs, place }: { pairs: Pair[]; place: Location }): JSX.Element {
  const sources = namesOf(pairs, 'source');
  const destinations = namesOf(pairs, 'destination');
  const most = Math.max(...pairs.map(({ counts }) => sumOf(counts)));
  return (
    <div class="table-box" tabIndex={0} role="region" aria-labelledby="matrix-title">
      <h3 id="matrix-title">Alerts by namespace of source and destination</h3>
      <table class="matrix">
        <thead>
          <tr>
            <th scope="col">from ↓ to →</th>
            {destinations.map((name) => (
              <th key={name} scope="col">
                <Text>{name || OUTSIDE}</Text>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sources.map((source) => (
            <tr key={source}>
              <th scope="row">
                <Text>{source || OUTSIDE}</Text>
              </th>
              {destinations.map((destination) => {
                const pair = pairs.find((one) => one.source === source && one.destination === destination);
                return <Cell key={destination} pair={pair} most={most} place={place} />;
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Cell({ pair, most, place }: { pair: Pair | undefined; most: number; place: Location }): JSX.Element {
  if (pair === undefined) return <td />;
  const { source, destination, counts } = pair;
  const count = sumOf(counts);
  const level = LEVELS.find((name) => counts[name] > 0) ?? 'low';
  return (
    <td>
      <button
        class={`matrix-cell edge-${level}`}
        type="button"
        title={inWords(counts)}
        aria-label={`${grouped(count)} from ${source || OUTSIDE} to ${destination || OUTSIDE}, the most severe ${LEVEL_NAMES[level].toLowerCase()}: show them`}
        onClick={() =>
          place.change((params) => {
            narrowEnd(params, 'source.namespace', source);
            narrowEnd(params, 'destination.namespace', destination);
          })
        }
      >
        {short(count)}
        <meter min={0} max={most} value={count} aria-hidden="true" />
      </button>
    </td>
  );
}

function Talkers({ talkers, place }: { talkers: Talker[]; place: Location }): JSX.Element {
  const most = Math.max(1, ...talkers.map(({ counts }) => sumOf(counts)));
  return (
    <section aria-labelledby="talkers-title">
      <h3 id="talkers-title">Sources with the most alerts</h3>
      <ol class="talkers">
        {talkers.map(({ ip, name, namespace, counts }) => (
          <li key={ip}>
            <button
              type="button"
              title={inWords(counts)}
              onClick={() => place.change((params) => narrow(params, 'source.ip', ip, false))}
            >
              <span class="mono">
                <Text>{ip}</Text>
              </span>
              <span class="faint">
                {name !== undefined && namespace !== undefined && <Text>{`${namespace}/${name}`}</Text>}
              </span>
              <strong>{grouped(sumOf(counts))}</strong>
              <span class="talker-bar" aria-hidden="true">
                {LEVELS.map((level) => (
                  <Bar key={level} level={level} share={counts[level] / most} />
                ))}
              </span>
            </button>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** An inline style would be forbidden; a flex factor by script is not. */
function Bar({ level, share }: { level: Level; share: number }): JSX.Element {
  return (
    <i
      class={`fill-${level}`}
      ref={(element) => {
        if (element !== null) element.style.width = `${share * 100}%`;
      }}
    />
  );
}

function namesOf(pairs: readonly Pair[], side: 'source' | 'destination'): string[] {
  const sums = new Map<string, number>();
  for (const pair of pairs) sums.set(pair[side], (sums.get(pair[side]) ?? 0) + sumOf(pair.counts));
  return [...sums].toSorted(([, a], [, b]) => b - a).map(([name]) => name);
}

function sumOf(counts: Record<Level, number>): number {
  return LEVELS.reduce((sum, level) => sum + counts[level], 0);
}

function inWords(counts: Record<Level, number>): string {
  return LEVELS.filter((level) => counts[level] > 0)
    .map((level) => `${grouped(counts[level])} ${LEVEL_NAMES[level].toLowerCase()}`)
    .join(', ');
}
