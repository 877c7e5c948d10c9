/**
 * Keeps a log readable and a disk from filling: of lines that say the same, so many a minute pass, and the next one
 * that passes says how many were left out. What is left out last is said when the minute is over.
 */

/** Lines of one kind that pass at once, and within each minute after. */
export const LINES_A_MINUTE = 10;
const MINUTE_MILLIS = 60_000;
/** Kinds that are known at a time; beyond them, the one that began first is forgotten, with its count. */
const MAX_KINDS = 4_096;

export interface LineLimit {
  /**
   * @returns how many lines of the kind were left out before this one, or `drop`.
   * @param now Milliseconds, monotonic.
   */
  admit(kind: string, now: number): number | 'drop';
  /** Kinds of which lines were left out and whose minute is over, with their numbers; they are forgotten. */
  due(now: number): { kind: string; leftOut: number }[];
}

interface Window {
  began: number;
  passed: number;
  leftOut: number;
}

export function createLineLimit(limit = LINES_A_MINUTE): LineLimit {
  const windows = new Map<string, Window>();
  return {
    admit(kind, now) {
      const window = windows.get(kind);
      if (window !== undefined && now - window.began < MINUTE_MILLIS) {
        if (window.passed < limit) {
          window.passed++;
          return 0;
        }
        window.leftOut++;
        return 'drop';
      }
      windows.delete(kind);
      windows.set(kind, { began: now, passed: 1, leftOut: 0 });
      if (windows.size > MAX_KINDS) {
        for (const oldest of windows.keys()) {
          windows.delete(oldest);
          break;
        }
      }
      return window?.leftOut ?? 0;
    },
    due(now) {
      const found: { kind: string; leftOut: number }[] = [];
      for (const [kind, { began, leftOut }] of windows) {
        if (now - began < MINUTE_MILLIS) break;
        windows.delete(kind);
        if (leftOut > 0) found.push({ kind, leftOut });
      }
      return found;
    },
  };
}

/** What a line is about, beside its text: lines of two lanes are two kinds. */
const ABOUT = ['lane', 'endpoint', 'sink', 'what', 'resource', 'set', 'file', 'sid'];

/** @param args As a method of pino gets them: an object and a text, or a text. */
export function kindOf(args: readonly unknown[], bindings: Record<string, unknown>): string {
  const [first, second] = args;
  const fields: Record<string, unknown> = typeof first === 'object' ? { ...bindings, ...first } : bindings;
  const text = typeof first === 'string' ? first : typeof second === 'string' ? second : '';
  return [text, ...ABOUT.map((key) => (key in fields ? `${key}=${String(fields[key])}` : ''))]
    .filter((part) => part !== '')
    .join(' ')
    .slice(0, 512);
}
