/** The agent's own log: JSON lines, or readable lines on a terminal. On stderr: stdout is for results. */
import { pino, type Logger, type LoggerOptions } from 'pino';
import pretty from 'pino-pretty';
import { isTerminal } from './print.ts';
import { createLineLimit, kindOf } from './line-limit.ts';
import type { Config } from '../config/load.ts';

/** `info` in pino's numbers. Below it, all is wanted. */
const INFO = 30;
const DUE_MILLIS = 30_000;

export function createLog(config: Pick<Config, 'logLevel' | 'logFormat' | 'node'>): Logger {
  const readable = config.logFormat === 'pretty' || (config.logFormat === 'auto' && process.stderr.isTTY);
  const limit = createLineLimit();
  const options: LoggerOptions = {
    level: config.logLevel,
    base: { node: config.node },
    hooks: {
      logMethod(args, method, level) {
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
  setInterval(() => {
    for (const { kind, leftOut } of limit.due(performance.now()))
      log.warn({ what: kind, leftOut }, 'lines were left out');
  }, DUE_MILLIS).unref();
  return log;
}
