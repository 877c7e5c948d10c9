/** `dpi-agent events pcap`: the packets of an event's flow, as a capture file. */
import { writeFile } from 'node:fs/promises';
import type { Argv, CommandModule } from 'yargs';
import { messageOf } from '../../files/errors.ts';
import { CommandError, EXIT } from '../exit.ts';
import { readPackets, withEvent, type EvidenceArgv } from './find.ts';

export const command: CommandModule<object, EvidenceArgv> = {
  command: 'pcap <event>',
  describe: "The packets of an event's flow, as a pcapng file for Wireshark",
  builder: (args: Argv) =>
    withEvent(args)
      .option('output', { alias: 'o', type: 'string', describe: 'A file, or - for stdout [default: <event>.pcapng]' })
      .example('$0 events pcap <id> -o - | tshark -r -', 'read by tshark') as unknown as Argv<EvidenceArgv>,
  handler: run,
};

async function run(argv: EvidenceArgv): Promise<void> {
  const content = await readPackets(argv);
  const { output = `${argv.event}.pcapng` } = argv;
  if (output === '-') {
    if (process.stdout.isTTY)
      throw new CommandError('a capture file is not for a terminal: name a file with -o, or pipe it to a program');
    return void process.stdout.write(content);
  }
  try {
    await writeFile(output, content, { mode: 0o640 });
  } catch (error) {
    throw new CommandError(`${output} cannot be written: ${messageOf(error)}`, EXIT.failed);
  }
  process.stderr.write(`${output}\n`);
}
