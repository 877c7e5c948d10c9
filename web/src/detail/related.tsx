/** Alerts around one: of its flow, source, pod and technique, as a timeline; and how often its signature is seen. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { LEVELS, type AlertRow, type Related, type Relation } from '../../../agent/ui/api.ts';
import { LEVEL_NAMES } from '../parts.tsx';
import { useAnswer } from '../server.ts';
import { grouped, Text } from '../text.tsx';
import { clock, fullMoment, moment } from '../time.ts';
import { clearAll, type Location } from '../url.ts';

const NAMES: Record<Relation, string> = { flow: 'Flow', source: 'Source', pod: 'Pod', technique: 'Technique' };
const FIRST = 6;

export function RelatedAlerts({ row, place }: { row: AlertRow; place: Location }): JSX.Element {
  const { data, error } = useAnswer<Related>(`/api/alerts/${encodeURIComponent(row.id)}/related`);
  const [chosen, setChosen] = useState<Relation>();
  // Of what has others, the nearest.
  const shown = data?.of.find(({ by }) => by === chosen) ?? data?.of.find(({ count }) => count > 1) ?? data?.of[0];
  return (
    <section aria-busy={data === undefined && error === undefined}>
      <h3>Around it</h3>
      {error !== undefined && <p class="faint">{error.message}</p>}
      {data !== undefined && <Seen related={data} row={row} />}
      {data !== undefined && shown !== undefined && (
        <>
          <div class="segments" role="group" aria-label="Related by">
            {data.of.map(({ by, count }) => (
              <button key={by} type="button" aria-pressed={by === shown.by} onClick={() => setChosen(by)}>
                {NAMES[by]} <span class="faint">{grouped(Math.max(0, count - 1))}</span>
              </button>
            ))}
          </div>
          <Timeline related={data} rows={shown.rows} current={row.id} />
          <Rows key={shown.by} related={data} shown={shown} row={row} place={place} />
        </>
      )}
    </section>
  );
}

/** First seen, how often, how rare. */
function Seen({ related: { signature, all }, row }: { related: Related; row: AlertRow }): JSX.Element {
  const share = all.count === 0 ? 0 : signature.count / all.count;
  const rare = share >= 0.01 ? `${Math.round(share * 100)} %` : 'less than 1 %';
  return (
    <p>
      {signature.count <= 1 ? (
        'The only alert of its signature.'
      ) : (
        <>
          Its signature: <strong>{grouped(signature.count)}</strong> alerts since{' '}
          {moment(signature.first ?? row.timestamp, false)}, {rare} of all.
        </>
      )}
    </p>
  );
}

const WIDTH = 600;
const HEIGHT = 44;

function Timeline({
  related,
  rows,
  current,
}: {
  related: Related;
  rows: readonly AlertRow[];
  current: string;
}): JSX.Element {
  const [from, to] = [Date.parse(related.from), Date.parse(related.to)];
  const x = (time: string): number => Math.round(((Date.parse(time) - from) / (to - from)) * WIDTH);
  return (
    <svg
      class="timeline"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label="A day before it and a day after it"
    >
      <line x1="0" x2={WIDTH} y1={HEIGHT - 4} y2={HEIGHT - 4} />
      {rows.map((row) => {
        const height = 34 - LEVELS.indexOf(row.level) * 7;
        return (
          <rect
            key={row.id}
            class={row.id === current ? 'current' : `bar-${row.level}`}
            x={Math.min(WIDTH - 4, Math.max(0, x(row.timestamp) - 2))}
            y={HEIGHT - 4 - height}
            width="4"
            height={height}
          >
            <title>{`${fullMoment(row.timestamp)}: ${LEVEL_NAMES[row.level]}`}</title>
          </rect>
        );
      })}
    </svg>
  );
}

interface RowsProps {
  related: Related;
  shown: Related['of'][number];
  row: AlertRow;
  place: Location;
}

function Rows({ related, shown, row, place }: RowsProps): JSX.Element {
  const others = shown.rows.filter(({ id }) => id !== row.id);
  if (others.length === 0) return <p class="faint">No other alert in the day before it and the day after it.</p>;
  return (
    <>
      <ol class="related">
        {others.slice(0, FIRST).map((other) => (
          <li key={other.id} class={`edge-${other.level}`}>
            <a
              href={`?alert=${encodeURIComponent(other.id)}`}
              onClick={(event) => {
                event.preventDefault();
                place.change((params) => params.set('alert', other.id));
              }}
            >
              <Text>{other.message}</Text>
            </a>
            <span class="faint">{clock(other.timestamp)}</span>
          </li>
        ))}
      </ol>
      <button
        class="link"
        type="button"
        onClick={() =>
          place.change((params) => {
            clearAll(params);
            params.set('q', shown.q);
            params.set('from', related.from);
            params.set('to', related.to);
          })
        }
      >
        {shown.count > others.length ? `All ${grouped(shown.count)}` : 'Show them'} in the list
      </button>
    </>
  );
}
