/** `dpi-agent replay`: recorded packets through the live path. */
import { stat } from 'node:fs/promises';
import cliProgress from 'cli-progress';
import type { Argv, CommandModule } from 'yargs';
import type { Config } from '../config/load.ts';
import type { EeEvent } from '../events/event.ts';
import { messageOf } from '../files/errors.ts';
import type { Progress, ReplaySummary } from '../replay/replay.ts';
import { headOf, STDIN } from '../replay/head.ts';
import { CommandError, EXIT } from './exit.ts';
import { isWhole, watchInterruption } from './interrupt.ts';
import { createLog } from './log.ts';
import { coloursOf, columnsOf, grouped, plural, tableHeader, tableRow, wrapWords } from './print.ts';
import { COMMON_FLAGS, loadRulesOnce, prepareInspection, readConfig, withClusterNetworks } from './setup.ts';
import { openPacketsOfAlerts, type Kept, type PacketsOfAlerts } from './replay-packets.ts';
import { replayAccepted, shortfalls, furtherText } from './replay-accepted.ts';

const OWN = ['files', 'output', 'summary', 'progress', 'packets'];

/** What stands beside the progress bar, in characters; and the bar. */
const COUNTS_COLUMNS = 58;
const LEAST_BAR = 10;
const MOST_BAR = 40;

interface ReplayArgv {
  files: string[];
  output: string;
  progress: boolean;
  packets?: string | undefined;
}

export const command: CommandModule<object, ReplayArgv> = {
  command: 'replay <files..>',
  builder: (args: Argv) =>
    args
      .positional('files', { type: 'string', array: true, demandOption: true, describe: 'Capture files; - is stdin' })
      .options(COMMON_FLAGS)
      .option('output', {
        alias: 'o',
        choices: ['table', 'json'],
        default: 'table',
        describe: 'json: one ee_event a line on stdout',
      })
      .option('packets', {
        type: 'string',
        describe: "Folder for the packets of each alert's flow; events then say what they said (record.app)",
      })
      .option('progress', {
        type: 'boolean',
        default: true,
        describe: 'Progress bar on stderr, where that is a terminal',
      })
      .strict(false)
      .example('$0 replay capture.pcap', 'alerts as a table')
      .example('$0 replay *.pcapng -o json | jq .record.snort_alert', 'alerts as NDJSON')
      .example('$0 replay capture.pcap --packets out -o json', 'with the protocol and the packets of each alert')
      .example('tcpdump -w - -c 1000 | $0 replay - --rules my.rules', 'from stdin, with rules of your own'),
  handler: run,
};

async function run(argv: ReplayArgv): Promise<void> {
  const given = readConfig({ logLevel: 'warn', ...argv }, OWN);
  const log = createLog(given);
  // It mostly waits for other programs.
  const prepared = prepareInspection(given, log);
  prepared.catch(() => undefined);
  const total = await checkFiles(argv.files.map(String));
  const config = await withClusterNetworks(given);
  const inspection = await prepared;
  const rules = await loadRulesOnce(config, inspection.install, log);

  const bar = progressBar(argv, total);
  const interruption = watchInterruption(() => bar.stop());
  const printer = printerOf(argv.output, bar);
  const packets = await packetsOf(argv, config, { log, abandon: interruption.abandon, give: printer.print });
  const { summary } = await replayAccepted(config, rules, {
    ...inspection,
    output: config.engine.output,
    ...(total === undefined ? {} : { expectedBytes: total }),
    files: argv.files.map(String),
    node: config.node,
    evidence: config.evidence,
    stop: interruption.stop,
    abandon: interruption.abandon,
    onProgress: bar.update,
    onEvent: (event, attributed) => (packets === undefined ? printer.print(event) : packets.add(event, attributed)),
  });
  const kept = await packets?.end();
  bar.stop();
  if (interruption.outputLost()) return;
  report(summary, argv.output, printer.rows());
  if (kept !== undefined) process.stderr.write(`dpi-agent: ${keptText(kept, argv.packets ?? '')}\n`);
  for (const line of interruption.explain(summary)) process.stderr.write(`dpi-agent: ${line}\n`);
  const isPart = interruption.abandon.aborted || !isWhole(summary) || shortfalls(summary).length > 0;
  process.exitCode =
    isPart || summary.engineError !== undefined || summary.files.some(isDamaged) ? EXIT.failed : EXIT.ok;
}

function printerOf(output: string, bar: Bar): { print: (event: EeEvent) => void; rows: () => number } {
  const colours = coloursOf(process.stdout);
  let rows = 0;
  return {
    rows: () => rows,
    print: (event) =>
      bar.aside(() => {
        if (output === 'json') {
          process.stdout.write(`${JSON.stringify(event)}\n`);
          return;
        }
        if (rows++ === 0) process.stdout.write(`${tableHeader(colours, columnsOf(process.stdout))}\n`);
        process.stdout.write(`${tableRow(event, colours, columnsOf(process.stdout))}\n`);
      }),
  };
}

/** @throws CommandError where the folder can't be used, or a file can be read only once. */
async function packetsOf(
  { packets, files }: ReplayArgv,
  { evidence }: Config,
  options: Parameters<typeof openPacketsOfAlerts>[2],
): Promise<PacketsOfAlerts | undefined> {
  if (packets === undefined) return undefined;
  for (const file of files)
    if (file === STDIN || !(await stat(file)).isFile())
      throw new CommandError(`--packets: ${file === STDIN ? 'stdin' : file} can be read only once: give it as a file`);
  try {
    return await openPacketsOfAlerts(packets, evidence, options);
  } catch (error) {
    throw new CommandError(`--packets: ${messageOf(error)}`);
  }
}

function keptText({ counts, evicted }: Kept, directory: string): string {
  const { written, cut, notFound, busy, failed } = counts;
  return [
    `packets of ${plural(written + cut, 'alert')} are in ${directory}`,
    ...(cut === 0 ? [] : [`of ${grouped(cut)} not all (evidence.packets, evidence.bytes)`]),
    ...(notFound + busy === 0 ? [] : [`of ${grouped(notFound + busy)} none were found`]),
    ...(failed === 0 ? [] : [`of ${grouped(failed)} they could not be written`]),
    ...(evicted === 0 ? [] : [`${grouped(evicted)} were deleted again (evidence.maxSize)`]),
  ].join(', ');
}

/**
 * Bytes of all files, undefined with stdin among them.
 * @throws CommandError for files that aren't there or are no captures.
 */
export async function checkFiles(files: string[]): Promise<number | undefined> {
  const errors: string[] = [];
  let total: number | undefined = 0;
  if (files.filter((file) => file === STDIN).length > 1) errors.push('stdin: it can be read only once');
  for (const file of files) {
    if (file === STDIN) {
      total = undefined;
      continue;
    }
    try {
      const head = await headOf(file);
      if (head.kind === 'not-pcap') errors.push(`${file}: not a capture file: ${head.reason}`);
      else if (total !== undefined) total = head.kind === 'gzip' ? undefined : total + head.size;
    } catch (error) {
      errors.push(`${file}: ${messageOf(error)}`);
    }
  }
  if (errors.length > 0) throw new CommandError(errors.join('\n'));
  return total;
}

export interface Bar {
  update: (progress: Progress) => void;
  /** Prints to stdout without tearing the bar. */
  aside(print: () => void): void;
  stop(): void;
}

export function progressBar(argv: { progress: boolean }, total: number | undefined): Bar {
  if (!argv.progress || !process.stderr.isTTY)
    return { update: () => undefined, aside: (print) => print(), stop: () => undefined };
  const room = columnsOf(process.stderr) - COUNTS_COLUMNS;
  const bar = new cliProgress.SingleBar(
    {
      format: [
        'replay',
        ...(total === undefined ? [] : [...(room < LEAST_BAR ? [] : ['{bar}']), '{percentage}% |']),
        '{read} MB | {rate} packets/s | {alerts} alerts',
      ].join(' '),
      barsize: Math.min(room, MOST_BAR),
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
      linewrap: true,
      etaBuffer: 1,
    },
    cliProgress.Presets.shades_classic,
  );
  const started = performance.now();
  bar.start(Math.max(total ?? 1, 1), 0, { read: '0', rate: '0', alerts: '0' });
  let latest: Progress = { bytes: 0, packets: 0, alerts: 0 };
  return {
    update(progress) {
      latest = progress;
      const seconds = Math.max((performance.now() - started) / 1000, 0.001);
      bar.update(total === undefined ? 0 : Math.min(progress.bytes, total), {
        read: grouped(Math.round(progress.bytes / 1e6)),
        rate: grouped(Math.round(progress.packets / seconds)),
        alerts: grouped(progress.alerts),
      });
    },
    aside(print) {
      if (process.stdout.isTTY) process.stderr.write('\r\x1b[K');
      print();
      if (process.stdout.isTTY) bar.update(Math.min(latest.bytes, total ?? 0));
    },
    stop() {
      // stop() goes back to where the cursor was at the start, above the table, unless it is told of another place.
      process.stderr.write('\r\x1b[K\x1b7');
      bar.stop();
    },
  };
}

/** The summary goes to stderr with `-o json`, so that stdout is events only. */
function report(summary: ReplaySummary, output: string, rows: number): void {
  const stream = output === 'json' ? process.stderr : process.stdout;
  const line = (text: string): void => {
    for (const part of wrapWords(text, columnsOf(stream))) stream.write(`${part}\n`);
  };
  const inspected = summary.inspected === undefined ? '' : `, ${grouped(summary.inspected)} inspected`;
  const unsupported = summary.files.reduce((sum, file) => sum + file.unsupported, 0);
  if (rows > 0) line('');
  line(
    `${plural(summary.packets, 'packet')} read${inspected}, ${grouped(summary.truncated)} truncated` +
      `${unsupported > 0 ? `, ${grouped(unsupported)} of unsupported link types` : ''}, ${plural(summary.alerts, 'alert')}${furtherText(summary)}`,
  );
  const { signatures } = summary;
  for (const { gid, sid, rev, message, count } of signatures.slice(0, 50)) {
    const before = `${grouped(count).padStart(9)}  ${`${gid}:${sid}:${rev}`.padEnd(14)}  `;
    const [first = '', ...more] = wrapWords(message, Math.max(columnsOf(stream) - before.length, 20));
    stream.write(`${before}${first}\n`);
    for (const part of more) stream.write(`${' '.repeat(before.length)}${part}\n`);
  }
  if (signatures.length > 50) line(`${' '.repeat(9)}  and ${plural(signatures.length - 50, 'more signature')}`);
  for (const file of summary.files) {
    if (file.error !== undefined) process.stderr.write(`dpi-agent: ${file.file}: ${file.error}\n`);
    for (const { offset, reason } of file.damages.slice(0, 10)) {
      process.stderr.write(`dpi-agent: ${file.file}: damaged at offset ${offset}: ${reason}\n`);
    }
    if (file.damageCount > 10)
      process.stderr.write(`dpi-agent: ${file.file}: ${plural(file.damageCount - 10, 'more damage')}\n`);
  }
  for (const shortfall of shortfalls(summary)) process.stderr.write(`dpi-agent: ${shortfall}\n`);
  if (summary.engineError !== undefined) process.stderr.write(`dpi-agent: ${summary.engineError.message}\n`);
}

function isDamaged(file: ReplaySummary['files'][number]): boolean {
  return file.damageCount > 0 || file.error !== undefined;
}
