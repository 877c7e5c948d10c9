/**
 * How a command that inspects recorded packets ends before its time: by a signal, or where its output can't be written.
 *
 * The engine hears no signal of the terminal: what the first one leaves is inspected, whoever sent it.
 */
import type { ReplaySummary } from '../replay/replay.ts';
import { endWithReader, EXIT } from './exit.ts';
import { plural } from './print.ts';

export interface Interruption {
  /** After the first SIGINT, SIGTERM or SIGHUP: what was read until then is inspected. */
  stop: AbortSignal;
  /** After a second one, or once standard output can't be written: nothing more is inspected. */
  abandon: AbortSignal;
  /** Whether nobody gets what is written to standard output; if that is an error, it was said. */
  outputLost(): boolean;
  /** What was left out, for the user; nothing where all was inspected. */
  explain(summary: Pick<ReplaySummary, 'files'>): string[];
}

/** For the rest of the process. @param onStop Called before the first signal is answered on standard error. */
export function watchInterruption(onStop: () => void): Interruption {
  const stop = new AbortController();
  const abandon = new AbortController();
  let signal: NodeJS.Signals | undefined;
  let outputLost = false;

  function interrupted(name: NodeJS.Signals): void {
    if (signal !== undefined) return abandon.abort();
    signal = name;
    onStop();
    const again = name === 'SIGINT' ? 'Ctrl-C again' : `another ${name}`;
    process.stderr.write(`dpi-agent: what was read is inspected; ${again} ends it at once\n`);
    stop.abort();
  }

  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, interrupted);
  // Nobody reads what is said: no reason to leave an engine and its folder behind.
  process.stderr.on('error', () => undefined);
  process.stdout.off('error', endWithReader).on('error', (error: NodeJS.ErrnoException) => {
    abandon.abort();
    if (outputLost) return;
    outputLost = true;
    // A reader that had enough is no error.
    if (error.code === 'EPIPE') return;
    process.stderr.write(`dpi-agent: standard output cannot be written: ${error.message}\n`);
    process.exitCode = EXIT.failed;
  });

  return {
    stop: stop.signal,
    abandon: abandon.signal,
    outputLost: () => outputLost,
    explain(summary) {
      const lines = signal === undefined || isWhole(summary) ? [] : [`interrupted by ${signal}${whereOf(summary)}`];
      if (abandon.signal.aborted) lines.push('ended at once: not all that was read was inspected');
      return lines;
    },
  };
}

export function isWhole({ files }: Pick<ReplaySummary, 'files'>): boolean {
  return files.every(({ whole }) => whole);
}

function whereOf({ files }: Pick<ReplaySummary, 'files'>): string {
  const cut = files.find(({ whole, bytes }) => !whole && bytes > 0);
  const unread = files.filter(({ whole, bytes }) => !whole && bytes === 0).length;
  return (
    (cut === undefined ? '' : ` after ${plural(cut.bytes, 'byte')} of ${cut.file}`) +
    (unread === 0 ? '' : ` with ${unread} of ${files.length} files unread`)
  );
}
