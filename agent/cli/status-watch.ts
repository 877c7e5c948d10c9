/** `dpi-agent status --watch`: looks at an agent again and again, until a signal or a key ends it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Snapshot } from '../observe/snapshot.ts';
import { CommandError } from './exit.ts';
import { coloursOf, columnsOf, isTerminal, wrapWords } from './print.ts';
import { statusLines } from './status-view.ts';

/** The agent's counters come each second: two looks this far apart are of different ones. */
export const SAMPLE_MILLIS = 1_200;

const ALTERNATE_SCREEN = '\u001B[?1049h\u001B[?25l';
const ORIGINAL_SCREEN = '\u001B[?25h\u001B[?1049l';
/** In raw mode Ctrl-C and Ctrl-D are keys like others. */
const ENDING_KEYS = ['q', 'Q', '\u0003', '\u0004'];
const HOME = '\u001B[H';
const REST_OF_LINE = '\u001B[K';
const REST_OF_SCREEN = '\u001B[J';

/** What is known of the agent. */
interface Look {
  newest: Snapshot;
  /** The one before it, for rates. */
  before: Snapshot | undefined;
  /** Why the agent does not answer now. */
  problem: string | undefined;
}

interface Display {
  show(look: Look): void;
  close(): void;
}

/**
 * @param interval Seconds.
 * @throws CommandError when the first question has no answer: there is nothing to watch.
 */
export async function watchStatus(ask: () => Promise<Snapshot>, output: string, interval: number): Promise<void> {
  const ended = new AbortController();
  const end = (): void => ended.abort();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, end);
  let look: Look = { newest: await ask(), before: undefined, problem: undefined };
  const display = displayFor(output, end);
  try {
    for (;;) {
      display.show(look);
      const isFirst = look.problem === undefined && look.before === undefined;
      const pause = sleep(isFirst ? SAMPLE_MILLIS : interval * 1000, undefined, { signal: ended.signal });
      await pause.catch(() => undefined);
      if (ended.signal.aborted) break;
      look = await lookAgain(look, ask);
    }
  } finally {
    display.close();
  }
}

async function lookAgain({ newest }: Look, ask: () => Promise<Snapshot>): Promise<Look> {
  try {
    return { newest: await ask(), before: newest, problem: undefined };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return { newest, before: undefined, problem: error.message };
  }
}

function displayFor(output: string, end: () => void): Display {
  if (output === 'json') return jsonLines();
  return isTerminal(process.stdout) ? fullScreen(end) : tables();
}

/** A snapshot a line; an agent that no longer answers is said once, on standard error. */
function jsonLines(): Display {
  let answers = true;
  return {
    show({ newest, problem }) {
      if (problem === undefined) process.stdout.write(`${JSON.stringify(newest)}\n`);
      else if (answers) process.stderr.write(`dpi-agent: ${problem}\n`);
      answers = problem === undefined;
    },
    close: () => undefined,
  };
}

/** One below the other. */
function tables(): Display {
  return {
    show: (look) => void process.stdout.write(`${linesOf(look).join('\n')}\n\n`),
    close: () => undefined,
  };
}

/** Like top: until it is closed, the terminal shows nothing else. @param end Called when a key ends it. */
function fullScreen(end: () => void): Display {
  const { stdout, stdin } = process;
  let shown: Look | undefined;
  const draw = (): void => {
    if (shown === undefined) return;
    const lines = linesOf(shown, stdout.rows).map((line) => `${line}${REST_OF_LINE}`);
    stdout.write(`${HOME}${lines.join('\r\n')}${REST_OF_SCREEN}`);
  };
  const restore = (): void => void stdout.write(ORIGINAL_SCREEN);
  stdout.write(ALTERNATE_SCREEN);
  process.once('exit', restore);
  stdout.on('resize', draw);
  if (isTerminal(stdin)) {
    stdin.setRawMode(true);
    stdin.on('data', (data: Buffer) => {
      if (ENDING_KEYS.some((key) => data.includes(key))) end();
    });
  }
  return {
    show(look) {
      shown = look;
      draw();
    },
    close() {
      if (isTerminal(stdin)) {
        stdin.setRawMode(false);
        stdin.pause();
      }
      stdout.off('resize', draw);
      process.off('exit', restore);
      restore();
    },
  };
}

/** @param rows Of the screen; 0, as of a terminal that knows no width: unbounded. */
function linesOf({ newest, before, problem }: Look, rows = 0): string[] {
  const colours = coloursOf(process.stdout);
  const columns = columnsOf(process.stdout);
  const problemLines = problem === undefined ? [] : wrapWords(problem, columns).map(colours.red);
  const view = { colours, columns, ...(rows > 0 ? { rows: rows - problemLines.length } : {}) };
  return [...problemLines, ...statusLines(newest, before, view)];
}
