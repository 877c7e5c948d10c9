/** What the commands of sinks share. */
import { COMMON_FLAGS } from '../setup.ts';

export const SINK_FLAGS = {
  config: COMMON_FLAGS.config,
  output: { alias: 'o', choices: ['table', 'json'], default: 'table', describe: 'json: for programs' },
} as const;

/** Flags that are no keys of the configuration. */
export const OWN = ['output', 'name'];

export interface SinksArgv {
  output: string;
}

export function printJson(value: unknown, stream: NodeJS.WriteStream = process.stdout): void {
  stream.write(`${JSON.stringify(value, null, 2)}\n`);
}

export function printLine(text: string, stream: NodeJS.WriteStream = process.stdout): void {
  stream.write(`${text}\n`);
}
