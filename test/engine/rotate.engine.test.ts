/** That Suricata's alert file is bounded while it runs, and that no alert is lost or doubled by it. */
import { expect, test } from '@jest/globals';
import { chmodSync, createWriteStream, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Decoded } from '../../agent/engine/alert.ts';
import { startGeneration } from '../../agent/engine/generation.ts';
import { nodeFileSystem } from '../../agent/engine/readers/tail-files.ts';
import { createTail } from '../../agent/engine/readers/tail.ts';
import { planSandbox } from '../../agent/engine/sandbox.ts';
import { createSuricataDriver } from '../../agent/engine/suricata/suricata.ts';
import { describeEngine } from '../support/engines.ts';
import { udpExchange, writePcap } from '../support/packets.ts';
import { poll } from '../support/poll.ts';

const ROTATIONS = 4;
const BATCH = 50;
const PCAP_HEADER = 24;

const datagrams = (from: number): Buffer =>
  writePcap(
    Array.from({ length: BATCH }, (_, i) => from + i).flatMap((number) =>
      udpExchange({
        clientPort: 10_000 + (number % 50_000),
        serverPort: 7777,
        start: 1_700_000_000_000_000 + number * 100,
        exchange: [{ from: 'client', data: `rotate ${number};` }],
      }),
    ),
  );

describeEngine('suricata', ({ binary }) => {
  test('its alert file is rotated while alerts flow, and each alert is read once', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dpi-agent-rotate-'));
    chmodSync(folder, 0o755);
    const text = 'alert udp any any -> any any (msg:"x"; content:"rotate"; sid:1000001; rev:1;)\n';
    const rules = { files: [{ name: '000-a.rules', sets: ['a'], text, origins: [] }], defaults: ['a'], policies: [] };
    const generation = await startGeneration({
      lane: 'lane0',
      laneDirectory: join(folder, 'lane0'),
      driver: createSuricataDriver({ arguments: [], alertFileBytes: 10_000 }),
      install: { name: 'suricata', binary, version: '7', searchMethods: [] },
      sandbox: await planSandbox('auto', false),
      engineRules: () => rules,
      output: 'json',
      mode: 'live',
    });
    try {
      const deleted: string[] = [];
      const tail = createTail({
        directory: generation.outputDirectory,
        stateDirectory: generation.stateDirectory,
        base: generation.command.alertFile,
        stamped: generation.command.stamped,
        decoder: generation.command.createDecoder(),
        from: 0,
        fileSystem: {
          ...nodeFileSystem,
          async unlink(path) {
            deleted.push(basename(path));
            await nodeFileSystem.unlink(path);
          },
        },
      });
      const items: Decoded[] = [];
      const reading = (async () => {
        for await (const batch of tail) {
          items.push(...batch);
          await tail.deleteConsumed(batch.at(-1)?.end ?? 0);
        }
      })();
      const input = createWriteStream(generation.fifo);
      let sent = 0;
      await poll(async () => {
        const bytes = datagrams(sent);
        if (!input.write(sent === 0 ? bytes : bytes.subarray(PCAP_HEADER))) await once(input, 'drain');
        sent += BATCH;
        return deleted.length >= ROTATIONS;
      });
      input.end();
      const { code, output } = await generation.exited;
      expect({ code, output }).toEqual({ code: 0, output: expect.not.stringContaining('cannot rotate') });
      tail.finish();
      await reading;
      const numbers = items.map((item) =>
        item.kind === 'alert' ? item.alert.payload?.toString('latin1') : item.reason,
      );
      expect(numbers).toEqual(Array.from({ length: sent }, (_, number) => `rotate ${number};`));
      expect(deleted.slice(0, ROTATIONS)).toEqual(
        Array.from({ length: ROTATIONS }, (_, number) => `eve.json.${number + 1}`),
      );
      const left = readdirSync(generation.outputDirectory).filter((name) => name.startsWith('eve.json'));
      expect(left.filter((name) => deleted.includes(name))).toEqual([]);
      expect(left.length).toBeLessThanOrEqual(2);
    } finally {
      generation.kill('SIGKILL');
      await generation.exited;
      rmSync(folder, { recursive: true });
    }
  });
});
