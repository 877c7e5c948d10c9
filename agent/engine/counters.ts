/**
 * What an engine counts while it runs: Snort on its standard output (perf_monitor, increments), Suricata in a file of its output folder
 * (EVE `stats`, totals). Both report every `COUNTERS_SECONDS`; Snort only when a packet comes then.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';

/** How often an engine reports. */
export const COUNTERS_SECONDS = 10;
/** Further bytes of a report are not read. */
const MAX_REPORT_BYTES = 256 * 1024;

export interface EngineCounters {
  /** Packets that were taken from the input and analysed, the agent's own among them. */
  analysed: number;
  /** Flows, or what the engine has that comes nearest, of protocols whose content can't be read; by protocol. */
  encrypted: Record<string, number>;
}

/** Where they come from. */
export type CounterSource =
  | {
      from: 'output';
      /** Matches a whole report; text that `begin` matches at its end may be the beginning of one. */
      report: RegExp;
      begin: RegExp;
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
  { report, begin, read }: Extract<CounterSource, { from: 'output' }>,
  found: (increment: EngineCounters) => void,
): CounterFilter {
  let held = '';
  return {
    push(text) {
      const rest = (held + text).replace(report, (match) => {
        const counters = read(match);
        if (counters === undefined) return match;
        found(counters);
        return '';
      });
      const at = rest.search(begin);
      held = at < 0 || rest.length - at > MAX_REPORT_BYTES ? '' : rest.slice(at);
      return rest.slice(0, rest.length - held.length);
    },
    end() {
      const rest = held;
      held = '';
      return rest;
    },
  };
}

/**
 * The last report in a file that the engine appends to; the file is emptied, so that it does not grow. The folder is the engine's, which may
 * be hostile: links are not followed, and nothing but a file of one name is touched.
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
  for (const key of path) at = typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[key] : undefined;
  return typeof at === 'number' && Number.isSafeInteger(at) && at >= 0 ? at : 0;
}
