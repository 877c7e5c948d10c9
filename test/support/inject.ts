/** Sends the frames of a capture file out of an interface:  node dist/test/support/inject.js INTERFACE FILE [TIMES] */
import { readFileSync } from 'node:fs';
import pcap from 'pcap';
import { createPcapParser } from '../../agent/replay/pcap-file.ts';

const [, , device = '', file = '', times = '1'] = process.argv;
const frames: Buffer[] = [];
const parser = createPcapParser((_s, _us, caplen, _length, _link, buffer, start) => {
  frames.push(Buffer.from(buffer.subarray(start, start + caplen)));
});
parser.push(readFileSync(file));
parser.end();

pcap.warningHandler = () => undefined;
// The filter keeps this session's own ring empty.
const session = pcap.createSession(device, { filter: 'less 1', buffer_size: 1 << 20 });
for (let round = 0; round < Number(times); round++) for (const frame of frames) session.session.inject(frame);
process.exit(0);
