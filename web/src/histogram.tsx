/** Alerts over time: bars by severity; dragging over them chooses a time. */
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { LEVELS, type Bucket, type Level, type Summary } from '../../agent/ui/api.ts';
import { grouped } from './text.tsx';
import { day, moment as momentOf } from './time.ts';
import { LEVEL_NAMES } from './parts.tsx';

const HEIGHT = 96;
/** Pixels that are no drag yet. */
const CLICK = 4;

interface Props {
  summary: Summary;
  choose: (from: number, to: number) => void;
}

export function Histogram({ summary, choose }: Props): JSX.Element {
  const { from, to, interval, buckets } = summary.histogram;
  const [hovered, setHovered] = useState<number>();
  const shown =
    hovered === undefined
      ? undefined
      : (buckets.find(({ start }) => start === hovered) ?? { start: hovered, counts: NONE });
  return (
    <figure class="histogram">
      <Chart summary={summary} hovered={hovered} hover={setHovered} choose={choose} />
      <figcaption>
        <span>{moment(from, interval)}</span>
        <span class="histogram-reading">
          {shown === undefined ? (
            <span class="faint">Drag to choose a time</span>
          ) : (
            <>
              {moment(shown.start, interval)} · <strong>{grouped(totalOf(shown))}</strong>
              {LEVELS.filter((level) => shown.counts[level] > 0).map(
                (level) => ` · ${LEVEL_NAMES[level].toLowerCase()} ${grouped(shown.counts[level])}`,
              )}
            </>
          )}
        </span>
        <span>{moment(to, interval)}</span>
      </figcaption>
    </figure>
  );
}

interface ChartProps extends Props {
  /** The start of a bar. */
  hovered: number | undefined;
  hover: (start: number | undefined) => void;
}

/** Pixels from its left edge. */
interface Brush {
  start: number;
  end: number;
}

function Chart({ summary, hovered, hover, choose }: ChartProps): JSX.Element {
  const { from, to, interval } = summary.histogram;
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const [brush, setBrush] = useState<Brush>();
  const bars = Math.max(1, Math.round((to - from) / interval));
  const xOf = (event: PointerEvent): number => {
    const left = box.current?.getBoundingClientRect().left ?? 0;
    return Math.min(width, Math.max(0, event.clientX - left));
  };
  const timeAt = (x: number): number => from + (x / width) * (to - from);
  const barAt = (x: number): number => from + Math.min(bars - 1, Math.floor((x / width) * bars)) * interval;
  const chooseBrushed = ({ start, end }: Brush): void => {
    const [left, right] = [Math.min(start, end), Math.max(start, end)];
    // A click is on one bar.
    if (right - left < CLICK) choose(barAt(left), barAt(left) + interval);
    else choose(Math.floor(timeAt(left)), Math.ceil(timeAt(right)));
  };
  return (
    <div
      ref={box}
      class="histogram-area"
      onPointerDown={(event) => {
        if (event.button !== 0) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        setBrush({ start: xOf(event), end: xOf(event) });
      }}
      onPointerMove={(event) => {
        hover(barAt(xOf(event)));
        if (brush !== undefined) setBrush({ ...brush, end: xOf(event) });
      }}
      onPointerUp={() => {
        setBrush(undefined);
        if (brush !== undefined) chooseBrushed(brush);
      }}
      onPointerCancel={() => setBrush(undefined)}
      onPointerLeave={() => hover(undefined)}
    >
      <Bars summary={summary} width={width} step={width / bars} hovered={hovered} brush={brush} />
    </div>
  );
}

/** Of an element, as the window changes. */
function useWidth(box: { readonly current: HTMLElement | null }): number {
  const [width, setWidth] = useState(800);
  useEffect(() => {
    const { current } = box;
    if (current === null) return undefined;
    const observer = new ResizeObserver(([entry]) => setWidth(Math.max(100, entry?.contentRect.width ?? 800)));
    observer.observe(current);
    return () => observer.disconnect();
  }, []);
  return width;
}

interface BarsProps {
  summary: Summary;
  width: number;
  /** From one bar to the next. */
  step: number;
  hovered: number | undefined;
  brush: Brush | undefined;
}

function Bars({ summary, width, step, hovered, brush }: BarsProps): JSX.Element {
  const { from, interval, buckets } = summary.histogram;
  const most = Math.max(1, ...buckets.map(totalOf));
  return (
    <svg width={width} height={HEIGHT} role="img" aria-label={describe(summary)}>
      {buckets.map((bucket) => (
        <Bar
          key={bucket.start}
          bucket={bucket}
          x={((bucket.start - from) / interval) * step}
          width={Math.max(1, step - (step > 4 ? 1.5 : 0))}
          most={most}
          faint={hovered !== undefined && hovered !== bucket.start && brush === undefined}
        />
      ))}
      <line class="axis" x1="0" x2={width} y1={HEIGHT - 0.5} y2={HEIGHT - 0.5} />
      {brush !== undefined && (
        <rect
          class="brush"
          x={Math.min(brush.start, brush.end)}
          width={Math.abs(brush.end - brush.start)}
          y="0"
          height={HEIGHT}
        />
      )}
    </svg>
  );
}

const NONE: Record<Level, number> = { critical: 0, high: 0, medium: 0, low: 0 };

function Bar({
  bucket,
  x,
  width,
  most,
  faint,
}: {
  bucket: Bucket;
  x: number;
  width: number;
  most: number;
  faint: boolean;
}): JSX.Element {
  let bottom = HEIGHT;
  const scale = (HEIGHT - 4) / most;
  return (
    <g class={faint ? 'bar faint-bar' : 'bar'}>
      {LEVELS.toReversed().map((level) => {
        const count = bucket.counts[level];
        if (count === 0) return null;
        const height = Math.max(1.5, count * scale);
        bottom -= height;
        return <rect key={level} class={`fill-${level}`} x={x} y={bottom} width={width} height={height} />;
      })}
    </g>
  );
}

function totalOf({ counts }: Pick<Bucket, 'counts'>): number {
  return LEVELS.reduce((sum, level) => sum + counts[level], 0);
}

function moment(millis: number, interval: number): string {
  return interval >= 86_400_000 ? day(millis) : momentOf(millis, interval < 60_000);
}

function describe({ total, counts, histogram: { from, to, interval } }: Summary): string {
  const parts = LEVELS.map((level) => `${grouped(counts[level])} ${LEVEL_NAMES[level].toLowerCase()}`).join(', ');
  return `${grouped(total)} alerts from ${moment(from, interval)} to ${moment(to, interval)}: ${parts}`;
}
