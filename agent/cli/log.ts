/** The agent's own log: JSON lines, or readable lines on a terminal. On stderr: stdout is for results. */
import { pino, type Logger, type LoggerOptions } from 'pino';
import pretty from 'pino-pretty';
import { isTerminal } from './print.ts';
import { createLineLimit, kindOf } from './line-limit.ts';
import type { Config } from '../config/load.ts';

/** `info` in pino's numbers. Below it, all is wanted. */
const INFO = 30;
const DUE_MILLIS = 30_000;

/** Levels of logs that were made here: loggers that are made of one keep no level of their own. */
const LEAST = new WeakMap<Logger, { value: number }>();

/** The least level that a log shows from now on, and so do those that were made of it. */
export function setLevel(log: Logger, level: Config['logLevel']): void {
  const least = LEAST.get(log);
  if (least !== undefined) least.value = pino.levels.values[level] ?? INFO;
}

export function createLog(config: Pick<Config, 'logLevel' | 'logFormat' | 'node'>): Logger {
  const least = { value: pino.levels.values[config.logLevel] ?? INFO };
  const readable = config.logFormat === 'pretty' || (config.logFormat === 'auto' && process.stderr.isTTY);
  const limit = createLineLimit();
  const options: LoggerOptions = {
    // What is shown is decided below: a level could not be changed for loggers that were made of this one.
    level: 'trace',
    base: { node: config.node },
    hooks: {
      logMethod(args, method, level) {
        if (level < least.value) return;
        const before = level < INFO ? 0 : limit.admit(kindOf(args, this.bindings()), performance.now());
        if (before === 'drop') return;
        const [first, ...rest] = args;
        if (before > 0 && typeof first === 'object') method.apply(this, [{ ...first, leftOut: before }, ...rest]);
        else if (before > 0 && typeof first === 'string') method.apply(this, [{ leftOut: before }, first, ...rest]);
        else method.apply(this, args);
      },
    },
  };
  const log = readable
    ? pino(
        options,
        pretty({
          destination: 2,
          sync: true,
          singleLine: true,
          colorize: isTerminal(process.stderr),
          ignore: 'pid,hostname,node',
          translateTime: 'HH:MM:ss.l',
        }),
      )
    : pino({ ...options, formatters: { level: (label) => ({ level: label }) } }, pino.destination(2));
  LEAST.set(log, least);
  setInterval(() => {
    for (const { kind, leftOut } of limit.due(performance.now()))
      log.warn({ what: kind, leftOut }, 'lines were left out');
  }, DUE_MILLIS).unref();
  return log;
}
