import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import {
  appendFileSync,
  linkSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createContext, Script } from 'node:vm';
import {
  addEngineCounters,
  createCounterFilter,
  takeReport,
  type CounterSource,
  type EngineCounters,
} from '../../agent/engine/counters.ts';
import type { EngineDriver } from '../../agent/engine/engine.ts';
import { createSnortDriver } from '../../agent/engine/snort/snort.ts';
import { createSuricataDriver } from '../../agent/engine/suricata/suricata.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-counters-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

async function sourceOf(driver: EngineDriver, mode: 'live' | 'replay' = 'live'): Promise<CounterSource | undefined> {
  const install = { name: driver.name, binary: join(folder, 'bin', driver.name), version: '1', searchMethods: [] };
  const { mkdirSync } = await import('node:fs');
  mkdirSync(join(folder, 'bin'), { recursive: true });
  mkdirSync(join(folder, 'etc/snort'), { recursive: true });
  writeFileSync(install.binary, '');
  writeFileSync(join(folder, 'etc/snort/snort.lua'), '');
  const command = await driver.prepare(install, {
    mode,
    fifo: join(folder, 'fifo'),
    configDirectory: folder,
    rulesDirectory: folder,
    policies: [],
    outputDirectory: folder,
    ruleFiles: [],
    output: 'json',
  });
  return command.counters;
}
const snort = createSnortDriver({ searchMethod: 'auto', arguments: [] });
const suricata = createSuricataDriver({ arguments: [] });

test('a replay counts nothing while it runs', async () => {
  expect(await sourceOf(snort, 'replay')).toBeUndefined();
  expect(await sourceOf(suricata, 'replay')).toBeUndefined();
});

describe('on standard output', () => {
  // As Snort 3.12.2 printed it.
  const printed =
    'Commencing packet processing\n++ [0] /fifo\n[{"timestamp":1795622901,"daq":{"analyzed":21}},{"timestamp":1795622903,"daq":{"analyzed":20},' +
    '"ssl":{"client_hello":2}}ERROR: [something], {else}\n,{"timestamp":1795622904}]\n-- [0] /fifo\n';
  const rest = 'Commencing packet processing\n++ [0] /fifo\nERROR: [something], {else}\n]\n-- [0] /fifo\n';

  test('reports are taken out of whatever pieces it comes in, and nothing else', async () => {
    const source = await sourceOf(snort);
    if (source?.from !== 'output') throw new Error('not on standard output');
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40 })), (sizes) => {
        const sum: EngineCounters = { analysed: 0, encrypted: {} };
        const filter = createCounterFilter(source, (increment) => addEngineCounters(sum, increment));
        let text = '';
        let at = 0;
        for (const size of [...sizes, printed.length]) {
          text += filter.push(printed.slice(at, at + size));
          at += size;
        }
        text += filter.end();
        expect(sum).toEqual({ analysed: 41, encrypted: { tls: 2 } });
        expect(text).toBe(rest);
      }),
    );
  });

  test('what only begins like a report is not held for ever', async () => {
    const source = await sourceOf(snort);
    if (source?.from !== 'output') throw new Error('not on standard output');
    const filter = createCounterFilter(source, () => undefined);
    expect(filter.push(`[{"timestamp":${'1'.repeat(20_000)}`).length).toBeGreaterThan(20_000);
    expect(filter.push('ended\n')).toBe('ended\n');
  });

  // Hours, where the time is not linear: the limit stands for them.
  test.each([
    ['beginnings that are none', '[{"'],
    ['beginnings', '[{"timestamp":'],
    ['reports without an end', '[{"timestamp":1,"a":{},'],
    ['a report without an end', ',"a":{}'],
  ])('an engine that prints %s does not hold up the agent', async (_what, unit) => {
    const source = await sourceOf(snort);
    if (source?.from !== 'output') throw new Error('not on standard output');
    const filter = createCounterFilter(source, () => undefined);
    const text = `[{"timestamp":1${unit.repeat(1_000_000)}\n`;
    const push = new Script('filter.push(text)');
    const context = createContext({ filter, text });
    expect(String(push.runInContext(context, { timeout: 20_000 })).length).toBe(text.length);
  });
});

describe('in a file', () => {
  const line = (pkts: number): string =>
    `${JSON.stringify({ timestamp: 'x', event_type: 'stats', stats: { decoder: { pkts }, app_layer: { flow: { tls: 3, ssh: 1 } } } })}\n`;

  test('the last report counts, and the file is emptied', async () => {
    const source = await sourceOf(suricata);
    if (source?.from !== 'file') throw new Error('not in a file');
    const path = join(folder, source.name);
    writeFileSync(path, line(5) + line(9));
    expect(source.read((await takeReport(folder, source.name)) ?? '')).toEqual({
      analysed: 9,
      encrypted: { tls: 3, ssh: 1, quic: 0 },
    });
    expect(statSync(path).size).toBe(0);
    expect(await takeReport(folder, source.name)).toBeUndefined();
    appendFileSync(path, line(12));
    expect(source.read((await takeReport(folder, source.name)) ?? '')?.analysed).toBe(12);
  });

  test('a line that is still being written is waited for', async () => {
    writeFileSync(join(folder, 'stats.json'), line(5) + '{"timestamp"');
    expect(await takeReport(folder, 'stats.json')).toBeUndefined();
    appendFileSync(join(folder, 'stats.json'), ':1}\n');
    expect(await takeReport(folder, 'stats.json')).toBe('{"timestamp":1}');
  });

  test('a file that is not there, and one that is not the engine’s own, are left alone', async () => {
    expect(await takeReport(folder, 'stats.json')).toBeUndefined();
    const victim = join(folder, 'victim');
    writeFileSync(victim, 'kept\n');
    symlinkSync(victim, join(folder, 'stats.json'));
    expect(await takeReport(folder, 'stats.json')).toBeUndefined();
    linkSync(victim, join(folder, 'linked'));
    expect(await takeReport(folder, 'linked')).toBeUndefined();
    expect(readFileSync(victim, 'utf8')).toBe('kept\n');
  });

  test('what is not JSON of counts is none', async () => {
    const source = await sourceOf(suricata);
    if (source?.from !== 'file') throw new Error('not in a file');
    expect(source.read('nonsense')).toBeUndefined();
    expect(source.read('{"stats":{"decoder":{"pkts":-1},"app_layer":7}}')).toEqual({
      analysed: 0,
      encrypted: { tls: 0, ssh: 0, quic: 0 },
    });
  });
});
