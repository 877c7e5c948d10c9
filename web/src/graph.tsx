/**
 * Who attacks whom, drawn: pods that alerts come from on the left, those that they go to on the right, a line for each
 * pair, as thick as it has alerts, in the colours of their levels. The table below says the same.
 */
import type { JSX } from 'preact';
import { LEVELS, type Flows, type Level, type Pair } from '../../agent/ui/api.ts';
import { LEVEL_NAMES } from './parts.tsx';
import { grouped, shown, Text } from './text.tsx';
import { narrowEnd, type Location } from './url.ts';

const WIDTH = 760;
const ROW = 26;
/** Where lines begin and end. */
const LEFT = 250;
const RIGHT = WIDTH - 250;
const OUTSIDE = 'outside';
const THICKEST = 12;
const THINNEST = 0.7;
const LONGEST = 34;

type Side = 'source' | 'destination';

export function Graph({ flows, place }: { flows: Flows; place: Location }): JSX.Element {
  const { edges, others } = flows;
  return (
    <section aria-labelledby="graph-title">
      <h3 id="graph-title">Alerts from pod to pod</h3>
      <div class="table-box" tabIndex={0} role="region" aria-label="Graph of alerts from pod to pod">
        <Drawing edges={edges} place={place} />
      </div>
      {others > 0 && <p class="faint">{grouped(others)} further alerts are between others.</p>}
      <details>
        <summary>The same as a table</summary>
        <EdgeTable edges={edges} place={place} />
      </details>
    </section>
  );
}

function Drawing({ edges, place }: { edges: Pair[]; place: Location }): JSX.Element {
  const sources = endsOf(edges, 'source');
  const destinations = endsOf(edges, 'destination');
  const height = ROW * Math.max(sources.length, destinations.length);
  const most = Math.max(1, ...edges.map(({ counts }) => sumOf(counts)));
  // A side with fewer ends has them in the middle.
  const heightOf = (ends: readonly string[], name: string): number =>
    (height - ROW * ends.length) / 2 + ROW * (ends.indexOf(name) + 0.5);
  return (
    <svg class="graph" viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-labelledby="graph-title">
      {edges.toReversed().map((edge) => (
        <Line
          key={`${edge.source} ${edge.destination}`}
          edge={edge}
          from={heightOf(sources, edge.source)}
          to={heightOf(destinations, edge.destination)}
          scale={THICKEST / most}
          place={place}
        />
      ))}
      {sources.map((name) => (
        <End key={name} side="source" name={name} y={heightOf(sources, name)} place={place} />
      ))}
      {destinations.map((name) => (
        <End key={name} side="destination" name={name} y={heightOf(destinations, name)} place={place} />
      ))}
    </svg>
  );
}

interface LineProps {
  edge: Pair;
  from: number;
  to: number;
  /** Of a line, for each alert. */
  scale: number;
  place: Location;
}

/** A strand for each level. */
function Line({ edge, from, to, scale, place }: LineProps): JSX.Element {
  const middle = (LEFT + RIGHT) / 2;
  const levels = LEVELS.filter((level) => edge.counts[level] > 0);
  const widths = levels.map((level) => Math.max(THINNEST, edge.counts[level] * scale));
  let below = -widths.reduce((sum, width) => sum + width, 0) / 2;
  return (
    <g class="graph-line" onClick={() => showEdge(place, edge)}>
      <title>{inWords(edge)}</title>
      {levels.map((level, index) => {
        const width = widths[index] ?? THINNEST;
        const [y, end] = [from + below + width / 2, to + below + width / 2];
        below += width;
        const d = `M${LEFT} ${y}C${middle} ${y} ${middle} ${end} ${RIGHT} ${end}`;
        return <path key={level} class={`edge-${level}`} d={d} stroke-width={width} />;
      })}
    </g>
  );
}

function End({ side, name, y, place }: { side: Side; name: string; y: number; place: Location }): JSX.Element {
  const label = shown(name || OUTSIDE);
  const isLeft = side === 'source';
  return (
    <g class="graph-end" onClick={() => place.change((params) => narrowEnd(params, `${side}.pod`, name))}>
      <title>{label}</title>
      <circle cx={isLeft ? LEFT : RIGHT} cy={y} r={5} />
      <text x={isLeft ? LEFT - 12 : RIGHT + 12} y={y + 4} text-anchor={isLeft ? 'end' : 'start'}>
        {label.length > LONGEST ? `${label.slice(0, LONGEST - 1)}…` : label}
      </text>
    </g>
  );
}

function EdgeTable({ edges, place }: { edges: Pair[]; place: Location }): JSX.Element {
  return (
    <div class="table-box" tabIndex={0} role="region" aria-label="Alerts from pod to pod, as a table">
      <table class="edges">
        <thead>
          <tr>
            <th scope="col">From</th>
            <th scope="col">To</th>
            <th scope="col">Alerts</th>
            <th scope="col">Most severe</th>
          </tr>
        </thead>
        <tbody>
          {edges.map((edge) => (
            <tr key={`${edge.source} ${edge.destination}`}>
              <td>
                <Text>{edge.source || OUTSIDE}</Text>
              </td>
              <td>
                <Text>{edge.destination || OUTSIDE}</Text>
              </td>
              <td>
                <button class="link" type="button" aria-label={inWords(edge)} onClick={() => showEdge(place, edge)}>
                  {grouped(sumOf(edge.counts))}
                </button>
              </td>
              <td>{LEVEL_NAMES[worstOf(edge.counts)]}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function showEdge(place: Location, { source, destination }: Pair): void {
  place.change((params) => {
    narrowEnd(params, 'source.pod', source);
    narrowEnd(params, 'destination.pod', destination);
  });
}

/** Those with the most alerts first. */
function endsOf(edges: readonly Pair[], side: Side): string[] {
  const sums = new Map<string, number>();
  for (const edge of edges) sums.set(edge[side], (sums.get(edge[side]) ?? 0) + sumOf(edge.counts));
  return [...sums].toSorted(([, a], [, b]) => b - a).map(([name]) => name);
}

function worstOf(counts: Record<Level, number>): Level {
  return LEVELS.find((level) => counts[level] > 0) ?? 'low';
}

function inWords({ source, destination, counts }: Pair): string {
  const ends = `from ${shown(source || OUTSIDE)} to ${shown(destination || OUTSIDE)}`;
  return `${grouped(sumOf(counts))} ${ends}, the most severe ${LEVEL_NAMES[worstOf(counts)].toLowerCase()}: show them`;
}

function sumOf(counts: Record<Level, number>): number {
  return LEVELS.reduce((sum, level) => sum + counts[level], 0);
}
