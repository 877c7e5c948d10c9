/** That an engine inspects what is there by the agent's configuration of it: bodies to their ends. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeEngine, replayWithDriver } from '../support/engines.ts';
import { httpRequest, httpResponse, tcpConversation, writePcap } from '../support/packets.ts';

const MARKER = 'dpi-marker';
const RULES = {
  snort: `alert http any any -> any any ( msg:"m"; file_data; content:"${MARKER}"; sid:1; )`,
  suricata: `alert http any any -> any any ( msg:"m"; file_data; content:"${MARKER}"; sid:1; )`,
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-inspection-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function write(name: string, content: string | Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

for (const engine of ['snort', 'suricata'] as const) {
  describeEngine(engine, (installed) => {
    describe.each(['request', 'response'])('the body of a %s', (side) => {
      test.each([0, 3_000, 12_000, 60_000])('is inspected behind %i bytes', async (bytes) => {
        const body = Buffer.concat([Buffer.alloc(bytes, 'x'), Buffer.from(MARKER)]);
        const isRequest = side === 'request';
        const frames = tcpConversation({
          exchange: [
            { from: 'client', data: httpRequest(isRequest ? { method: 'POST', body } : {}) },
            { from: 'server', data: httpResponse(isRequest ? {} : { body }) },
          ],
        });
        const pcap = write('body.pcap', writePcap(frames));
        const alerts = await replayWithDriver(installed, pcap, [write('x.rules', `${RULES[engine]}\n`)]);
        expect(alerts.map(({ sid }) => sid)).toEqual([1]);
      });
    });
  });
}
