/** That `engine.memoryLimit` holds: real engines over more flows than fit. */
import { expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSnortDriver } from '../../agent/engine/snort/snort.ts';
import { createSuricataDriver } from '../../agent/engine/suricata/suricata.ts';
import { describeEngine } from '../support/engines.ts';
import { whyNoProc } from '../support/proc.ts';
import { tcpConversation, writePcap, type Frame } from '../support/packets.ts';

if (whyNoProc !== undefined) process.stderr.write(`skipped: ${whyNoProc}\n`);
const withProc = whyNoProc === undefined ? test : test.skip;

const MIB = 2 ** 20;
const FLOWS = 25_000;
const LIMIT = 128 * MIB;
/** Libraries and heap around what the limit bounds. */
const ROOM = 32 * MIB;

/** Requests whose bodies never come, each of a flow that does not end: what an engine has to keep. */
function* unfinished(): Generator<Frame> {
  const data = 'POST /a HTTP/1.1\r\nHost: example.test\r\nContent-Length: 1000\r\n\r\n'.padEnd(200, 'x');
  for (let flow = 0; flow < FLOWS; flow++) {
    yield* tcpConversation({
      client: `10.1.${flow >> 10}.${((flow >> 6) & 15) + 1}`,
      clientPort: 10_000 + (flow & 63),
      start: 1_700_000_000_000_000 + flow,
      interval: 0,
      exchange: [{ from: 'client', data }],
      end: 'none',
      vlans: [1 + (flow % 5)],
    });
  }
}

for (const name of ['snort', 'suricata'] as const) {
  describeEngine(name, ({ binary }) => {
    withProc('a process stays below its memory limit where it takes more without one', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'dpi-memory-'));
      try {
        const file = join(folder, 'flows.pcap');
        writeFileSync(file, writePcap([...unfinished()]));
        const rules = join(folder, 'x.rules');
        writeFileSync(rules, 'alert tcp any any -> any any (msg:"x"; content:"zzyzx"; sid:1000001;)\n');
        const limited = await peak(LIMIT);
        const free = await peak(1024 * MIB);
        expect(limited).toBeLessThan(LIMIT + ROOM);
        expect(free).toBeGreaterThan(limited + ROOM);

        /** The most memory that it had at a time, in bytes. */
        async function peak(memoryLimit: number): Promise<number> {
          const outputDirectory = join(folder, `${memoryLimit}`);
          mkdirSync(outputDirectory);
          const settings = { memoryLimit, arguments: [] };
          const driver =
            name === 'snort'
              ? createSnortDriver({ ...settings, searchMethod: 'ac_bnfa' })
              : createSuricataDriver(settings);
          const command = await driver.prepare(
            { name, binary, version: '', searchMethods: [] },
            {
              mode: 'replay',
              fifo: file,
              configDirectory: folder,
              rulesDirectory: folder,
              policies: [],
              outputDirectory,
              ruleFiles: [rules],
              output: 'json',
            },
          );
          const child = spawn(binary, command.arguments, { stdio: 'ignore' });
          let most = 0;
          const timer = setInterval(() => {
            most = Math.max(most, highWater(child.pid ?? 0));
          }, 10);
          const [code] = (await once(child, 'exit')) as [number | null];
          clearInterval(timer);
          expect(code).toBe(0);
          expect(most).toBeGreaterThan(0);
          return most;
        }
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  });
}

function highWater(pid: number): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
