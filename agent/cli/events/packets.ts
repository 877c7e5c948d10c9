/** `dpi-agent events packets`: the packets of an event's flow, one a line. */
import type { Argv, CommandModule } from 'yargs';
import { headersOf } from '../../evidence/headers.ts';
import type { FlowPacket } from '../../evidence/packet.ts';
import { parsePackets } from '../../evidence/read.ts';
import { messageOf } from '../../files/errors.ts';
import { CommandError, EXIT } from '../exit.ts';
import { readPackets, withEvent, type EvidenceArgv } from './find.ts';

export const command: CommandModule<object, EvidenceArgv> = {
  command: 'packets <event>',
  describe: "The packets of an event's flow, one a line",
  builder: (args: Argv) =>
    withEvent(args)
      .option('output', { alias: 'o', choices: ['text', 'json'], describe: 'json: each packet as a JSON object' })
      .example('$0 events packets <id>', 'who sent what, and when') as unknown as Argv<EvidenceArgv>,
  handler: run,
};

async function run(argv: EvidenceArgv): Promise<void> {
  const packets = readCaptureFile(await readPackets(argv));
  const lineOf = argv.output === 'json' ? jsonLine : textLine;
  process.stdout.write(packets.map((packet) => `${lineOf(packet)}\n`).join(''));
}

/** @throws CommandError when it is damaged. */
function readCaptureFile(content: Buffer): FlowPacket[] {
  try {
    return parsePackets(content);
  } catch (error) {
    throw new CommandError(messageOf(error), EXIT.failed);
  }
}

function textLine({ time, frame, length, linkType }: FlowPacket): string {
  const headers = headersOf({ frame, linkType });
  if (headers === undefined) return `${timeText(time)}  ${length} bytes, not of IP`;
  const { source, destination, sourcePort, destinationPort, protocol, flags, fragment, payload } = headers;
  const end = (address: string, port: number | undefined): string =>
    port === undefined ? address : `${address.includes(':') ? `[${address}]` : address}:${port}`;
  const more = [protocol, flags, fragment && 'fragment', `${length} bytes`, `${frame.length - payload} of payload`];
  const captured = frame.length < length ? [`${frame.length} captured`] : [];
  return `${timeText(time)}  ${end(source, sourcePort)} > ${end(destination, destinationPort)}  ${[...more, ...captured].filter((text) => text !== undefined && text !== '').join(', ')}`;
}

function jsonLine({ time, frame, length, linkType }: FlowPacket): string {
  const { sourcePort, destinationPort, ...headers } = headersOf({ frame, linkType }) ?? {};
  return JSON.stringify({
    time: timeText(time),
    length,
    captured: frame.length,
    link_type: linkType,
    source_port: sourcePort,
    destination_port: destinationPort,
    ...headers,
    data: Buffer.from(frame).toString('base64'),
  });
}

function timeText(micros: number): string {
  const seconds = Math.floor(micros / 1e6);
  const fraction = String(micros - seconds * 1e6).padStart(6, '0');
  return `${new Date(seconds * 1000).toISOString().slice(0, -5)}.${fraction}Z`;
}
