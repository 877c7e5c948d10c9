/** Lines of a text protocol, each with the time of its first byte. */
import { timeAt, type Run } from './pieces.ts';

export interface Line {
  text: string;
  /** Microseconds since 1970. */
  time: number;
  /** Offset behind it in its run. */
  end: number;
}

const MAX_LINES = 2_000;
const MAX_LINE = 1_024;
const LF = 0x0a;

/** The lines of the first run; longer ones are cut. The last may be without its end. */
export function linesOf(run: Run | undefined): Line[] {
  const lines: Line[] = [];
  if (run === undefined) return lines;
  const { bytes } = run;
  for (let at = 0; at < bytes.length && lines.length < MAX_LINES;) {
    const feed = bytes.indexOf(LF, at);
    const end = feed < 0 ? bytes.length : feed + 1;
    lines.push({
      text: bytes.toString('utf8', at, Math.min(end, at + MAX_LINE)).trimEnd(),
      time: timeAt(run, at),
      end,
    });
    at = end;
  }
  return lines;
}
