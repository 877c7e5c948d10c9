/**
 * What an engine counts while it runs: Snort on its standard output (perf_monitor, increments), Suricata in a file of
 * its output folder (EVE `stats`, totals). Both report every `COUNTERS_SECONDS`; Snort only when a packet comes then.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { isRecord } from '../files/record.ts';

/** How often an engine reports. */
export const COUNTERS_SECONDS = 10;
/** Further bytes of a report are not read. */
const MAX_REPORT_BYTES = 256 * 1024;
/**
 * A beginning of a report that is longer is none. It is searched again with each piece of output, so this bounds what a
 * piece of one byte costs.
 */
const MAX_HELD_CHARACTERS = 16 * 1024;

export interface EngineCounters {
  /** Packets that were taken from the input and analysed, the agent's own among them. */
  analysed: number;
  /** Flows, or what the engine has that comes nearest, of protocols whose content can't be read; by protocol. */
  encrypted: Record<string, number>;
}

export function zeroEngineCounters(): EngineCounters {
  return { analysed: 0, encrypted: {} };
}

/** Where they come from. */
export type CounterSource =
  | {
      from: 'output';
      /**
       * Matches a whole report, which has no line break, in time linear in the text: the engine may be hostile, and
       * print anything.
       */
      report: RegExp;
      /** What reports begin with. */
      openings: readonly string[];
      read: (report: string) => EngineCounters | undefined;
    }
  | { from: 'file'; name: string; read: (line: string) => EngineCounters | undefined };

/** Takes the reports out of what an engine prints. */
export interface CounterFilter {
  /** @returns the text without them. */
  push(text: string): string;
  end(): string;
}

export function createCounterFilter(
  { report, openings, read }: Extract<CounterSource, { from: 'output' }>,
  onReport: (increment: EngineCounters) => void,
): CounterFilter {
  let unread = '';
  return {
    push(text) {
      const rest = (unread + text).replace(report, (match) => {
        const counters = read(match);
        if (counters === undefined) return match;
        onReport(counters);
        return '';
      });
      unread = rest.slice(beginningAt(rest, openings));
      return rest.slice(0, rest.length - unread.length);
    },
    end() {
      const rest = unread;
      unread = '';
      return rest;
    },
  };
}

/**
 * Where the beginning of a report stands whose end has not come yet; the text's length where there is none. Takes
 * linear time.
 */
function beginningAt(text: string, openings: readonly string[]): number {
  // A report has no opening within, so only the last one can still become one.
  const last = Math.max(...openings.map((opening) => text.lastIndexOf(opening)));
  const isOpen = last >= 0 && text.length - last <= MAX_HELD_CHARACTERS && !text.includes('\n', last);
  return isOpen ? last : text.length - Math.max(...openings.map((opening) => overlap(text, opening)));
}

/** How many characters at the text's end are the beginning of `opening`, without the whole of it. */
function overlap(text: string, opening: string): number {
  let length = opening.length - 1;
  while (length > 0 && !text.endsWith(opening.slice(0, length))) length--;
  return length;
}

/**
 * The last report in a file that the engine appends to; the file is emptied, so that it does not grow. The folder is
 * the engine's, which may be hostile: links are not followed, and nothing but a file of one name is touched.
 */
export async function takeReport(directory: string, name: string): Promise<string | undefined> {
  let file;
  try {
    file = await open(join(directory, name), constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    // It is not there yet.
    return undefined;
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile() || stat.nlink !== 1 || stat.size === 0) return undefined;
    const length = Math.min(stat.size, MAX_REPORT_BYTES);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, stat.size - length);
    const end = buffer.lastIndexOf(0x0a, bytesRead - 1);
    // Its last line is still being written.
    if (end !== bytesRead - 1) return undefined;
    await file.truncate(0);
    return buffer.toString('utf8', buffer.lastIndexOf(0x0a, end - 1) + 1, end);
  } finally {
    await file.close();
  }
}

/** Adds `more` to `sum`, in place. */
export function addEngineCounters(sum: EngineCounters, more: EngineCounters): EngineCounters {
  sum.analysed += more.analysed;
  for (const [protocol, count] of Object.entries(more.encrypted))
    sum.encrypted[protocol] = (sum.encrypted[protocol] ?? 0) + count;
  return sum;
}

/** A counter in JSON of an engine; 0 where it has none. */
export function countAt(value: unknown, ...path: string[]): number {
  let at: unknown = value;
  for (const key of path) at = isRecord(at) ? at[key] : undefined;
  return typeof at === 'number' && Number.isSafeInteger(at) && at >= 0 ? at : 0;
}
