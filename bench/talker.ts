/**
 * Sends numbered datagrams with the marker, and others between them: node dist/bench/talker.js ADDRESS PORT COUNT
 * SPACING_MILLIS BACKGROUND BACKGROUND: datagrams without the marker per second.
 */
import { createSocket } from 'node:dgram';
import { setTimeout as sleep } from 'node:timers/promises';
import { MARKER } from '../test/support/agent.ts';

const [, , address = '', port = '0', count = '0', spacing = '20', background = '0'] = process.argv;
const socket = createSocket('udp4');
const send = (text: string): Promise<void> =>
  new Promise((resolve, reject) =>
    socket.send(text, Number(port), address, (error) => (error === null ? resolve() : reject(error))),
  );
const noise = 'nothing to see '.repeat(13);
const started = performance.now();
let others = 0;
for (let number = 0; number < Number(count); number++) {
  const due = started + number * Number(spacing);
  for (let now = performance.now(); now < due; now = performance.now()) {
    for (; others < ((now - started) / 1000) * Number(background); others++) await send(noise);
    await sleep(1);
  }
  await send(`${MARKER} <${number}>`);
}
socket.close();
