/** That `engine.memoryLimit` holds: real engines over more flows than fit. */
import { expect, test } from '@jest/globals';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
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

/** Runs a command that must succeed, and prints the most memory that it had at a time, in KiB, as the kernel counts. */
const MEASURED = `
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)`;

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
          const { stdout } = await promisify(execFile)('python3', ['-c', MEASURED, binary, ...command.arguments]);
          return Number(stdout) * 1024;
        }
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  });
}
