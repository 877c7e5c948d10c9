/** The agent's own log: JSON lines, or readable lines on a terminal; always on stderr, so that stdout is for results. */
import { pino, type Logger } from 'pino';
import pretty from 'pino-pretty';
import { isTerminal } from './print.ts';
import type { Config } from '../config/load.ts';

export function createLog(config: Pick<Config, 'logLevel' | 'logFormat' | 'node'>): Logger {
  const readable = config.logFormat === 'pretty' || (config.logFormat === 'auto' && process.stderr.isTTY);
  const options = { level: config.logLevel, base: { node: config.node } };
  if (!readable) return pino({ ...options, formatters: { level: (label) => ({ level: label }) } }, pino.destination(2));
  return pino(
    options,
    pretty({
      destination: 2,
      sync: true,
      singleLine: true,
      colorize: isTerminal(process.stderr),
      ignore: 'pid,hostname,node',
      translateTime: 'HH:MM:ss.l',
    }),
  );
}
