/** `dpi-agent events`, as a process of its own. */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { readFlags, type FilterArgv } from '../../agent/cli/events/flags.ts';
import { pcapng } from '../../agent/evidence/pcapng.ts';
import { searchJournal } from '../../agent/journal/search.ts';
import { segmentPath } from '../../agent/journal/segment.ts';
import { foundEvent } from '../journal/fixtures/events.ts';
import { COMMAND, commandLine, runCli } from '../support/cli.ts';
import { runOnTerminal, whyNoTerminal } from '../support/terminal.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'events-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

function start(...args: string[]): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [COMMAND, 'events', '--journal.directory', directory, ...args]);
}

const events = (...args: string[]): ReturnType<typeof runCli> =>
  runCli(['events', '--journal.directory', directory, ...args]);

const segment = (sequence: number): string => segmentPath(directory, sequence);
const lines = (...all: string[]): string => all.map((line) => `${line}\n`).join('');

describe('events', () => {
  test("prints the journal's lines as they are, the newest first, as many as the limit says", async () => {
    await writeFile(segment(0), lines(foundEvent(0), foundEvent(1), foundEvent(2)));
    expect(await events('--limit', '2')).toEqual({
      code: 0,
      stdout: lines(foundEvent(2), foundEvent(1)),
      stderr: '',
    });
    expect((await events('--order', 'oldest', '--limit', '1')).stdout).toBe(lines(foundEvent(0)));
    expect(await events('--ip', '10.9.9.9')).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test('flags select, and repeated ones widen what they select', async () => {
    const all = [
      foundEvent(0, {}, { snort_signature_id: '7' }),
      foundEvent(1, {}, { snort_signature_id: '8' }),
      foundEvent(2, { source_ip: '2001:db8::1' }),
    ];
    await writeFile(segment(0), lines(...all));
    const { stdout } = await events(
      '--signature',
      '7',
      '--signature',
      '1:8:1',
      '--order',
      'oldest',
      '--severity',
      '60',
    );
    expect(stdout).toBe(lines(...all.slice(0, 2)));
    expect((await events('--ip', '2001:DB8:0::1', '--since', '2026-11-24T00:00:00Z')).stdout).toBe(
      lines(foundEvent(2, { source_ip: '2001:db8::1' })),
    );
  });

  test('what the flow said selects, in the event or beside the journal', async () => {
    const id = '5'.repeat(40);
    const http = { method: 'GET', host: 'web.shop.test:8080', url: '/admin/login', status: 200 };
    const tls = { sni: 'api.shop.test', ja4: 't13d3111h2_e8f1e7e78f70_1f22a2ca17c4' };
    const all = [
      foundEvent(0, {}, { outcome: '2xx', app: { protocol: 'http', http } }),
      foundEvent(1, {}, { event_id: id }),
      foundEvent(2),
    ];
    await writeFile(segment(0), lines(...all));
    const known = path.join(directory, 'evidence', '2026-11-24');
    await mkdir(known, { recursive: true });
    const packets = { count: 1, bytes: 60, first: '', last: '', complete: true };
    const facts = JSON.stringify({ packets, outcome: '5xx', events: { [id]: { app: { protocol: 'tls', tls } } } });
    const packet = { time: 1, frame: Buffer.alloc(60), length: 60, linkType: 1 };
    const source = { interface: 'eth0', namespace: 'shop', pod: 'web', node: 'node-1' };
    await writeFile(path.join(known, `${id}.pcapng`), pcapng([packet], source, [], facts));
    const found = async (...flags: string[]): Promise<number[]> => {
      const { stdout } = await events('-o', 'json', '--order', 'oldest', ...flags);
      return stdout
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => (JSON.parse(line) as { record: { number: number } }).record.number);
    };
    expect(await found('--host', '*.shop.test')).toEqual([0]);
    expect(await found('--host', 'shop.test')).toEqual([]);
    expect(await found('--url', 'LOGIN')).toEqual([0]);
    expect(await found('--sni', 'api.shop.test', '--ja4', 't13d*')).toEqual([1]);
    expect(await found('--sni', 'api.shop.test', '--host', '*')).toEqual([]);
    expect(await found('--query', 'outcome: 2xx or app: tls')).toEqual([0, 1]);
    expect(await found('--query', 'outcome: 5xx')).toEqual([1]);
  });

  test('patterns of pods and resources, networks and words of severity select', async () => {
    const all = [
      foundEvent(0, { source_namespace: 'shop', source_name: 'backend-1', severity: 100 }),
      foundEvent(1, { dest_namespace: 'shop', dest_name: 'front', source_ip: '10.65.0.9', severity: 80 }),
      foundEvent(
        2,
        { origin: 'dpi.other/web', dest_ip: 'fd00::9' },
        { seen_at: [{ namespace: 'shop', name: 'seer' }] },
      ),
      foundEvent(3, { origin: 'dpi.other/api' }),
    ];
    await writeFile(segment(0), lines(...all));
    const found = async (flags: FilterArgv): Promise<number[]> => {
      const { filter } = readFlags(flags);
      const numbers = [];
      for await (const { line } of searchJournal({ directory, filter, order: 'oldest' }))
        numbers.push((JSON.parse(line) as { record: { number: number } }).record.number);
      return numbers;
    };
    expect(await found({ pod: ['shop/*'] })).toEqual([0, 1, 2]);
    expect(await found({ pod: ['*/back*-1', 'shop/front'] })).toEqual([0, 1]);
    expect(await found({ pod: ['*/*'] })).toEqual([0, 1, 2]);
    expect(await found({ resource: ['other/*'] })).toEqual([2, 3]);
    expect(await found({ ip: ['10.65.0.0/24', 'fd00::/64'] })).toEqual([1, 2]);
    expect(await found({ ip: ['10.65.0.0/24', '10.0.0.3'], pod: ['shop/*'], severity: 'critical' })).toEqual([0]);
    expect(await found({ severity: 'high' })).toEqual([0, 1]);
    const { stdout } = await events('--pod', 'shop/*', '--ip', '10.65.0.0/24', '--severity', 'high');
    expect(stdout).toBe(
      lines(foundEvent(1, { dest_namespace: 'shop', dest_name: 'front', source_ip: '10.65.0.9', severity: 80 })),
    );
  });

  test('what would match nothing is refused', async () => {
    const { code, stderr } = await events(...'--since 1h --until 2h --ip 10.0.0.0/33 --severity severe'.split(' '));
    expect(stderr).toContain('flag --until: "2h": expected a time after --since');
    expect(stderr).toContain('flag --ip: "10.0.0.0/33": expected an IPv4 or IPv6 address, or a network');
    expect(stderr).toContain('flag --severity: "severe": expected critical, high, medium, low, or an integer');
    expect(code).toBe(2);
  });

  (whyNoTerminal === undefined ? test : test.skip)('on a terminal no line is longer than it is wide', async () => {
    const pods = { source_namespace: 'default', source_name: 'attacker', dest_namespace: 'payments' };
    const message = 'MALWARE-CNC Win.Trojan.Kuluoz variant outbound connection';
    await writeFile(
      segment(0),
      lines(foundEvent(0, { ...pods, dest_name: 'backend-7d4b9c6f5-x2x9z', severity: 100 }, { message })),
    );
    for (const columns of [0, 60, 160]) {
      const { code, screen } = await runOnTerminal(
        `stty cols ${columns}; ${commandLine('events', '--journal.directory', directory)}`,
      ).ended;
      // oxlint-disable-next-line no-control-regex
      const shown = screen.replaceAll(/\u001B\[\d+m/g, '').split('\r\n');
      expect(Math.max(...shown.map((line) => line.length))).toBeLessThanOrEqual(columns || 80);
      const words = shown.join(' ').split(/\s+/).join(' ');
      expect(words).toContain(message);
      expect(words).toContain(' critical ');
      expect(words).toContain('default/attacker:40000 → payments/backend-7d4b9c6f5-x2x9z:80');
      expect(code).toBe(0);
    }
  });

  test('the table obeys no terminal escapes of a foreign line, shows what an event stands for, and damage is counted', async () => {
    await writeFile(
      segment(0),
      lines(
        foundEvent(
          0,
          { dest_name: '\u001B]0;title\u0007web', dest_namespace: 'shop' },
          { message: '\u001B[2Jfirst\nsecond' },
        ),
        'damage',
        foundEvent(1, {}, { message: 'many', count: 1234, last_timestamp: '2026-11-24T00:00:10.000000Z' }),
      ),
    );
    const { code, stdout, stderr } = await events('-o', 'table', '--order', 'oldest');
    const [header, first, second, ...more] = stdout.split('\n');
    expect(header).toMatch(/^TIME/);
    expect(first).toContain(' → shop/web:80 ');
    expect(first).toMatch(/ firstsecond$/);
    expect(second).toMatch(/ many \(×1,234\)$/);
    expect(more).toEqual(['']);
    expect(stderr).toBe(`dpi-agent: 1 damaged line in ${directory} was passed over\n`);
    expect(code).toBe(0);
  });

  test('a query selects as the search of the page does, also of those that are followed', async () => {
    const all = [
      foundEvent(0, { source_ip: '10.65.0.7', dest_port: 4444, dest_name: 'cart-0', dest_namespace: 'shop' }),
      foundEvent(1, { source_ip: '10.65.0.8', dest_port: 4444, dest_name: 'ledger-0', dest_namespace: 'payments' }),
      foundEvent(2, { source_ip: '10.66.0.8', dest_port: 4444, dest_name: 'ledger-0', dest_namespace: 'payments' }),
    ];
    await writeFile(segment(0), lines(...all));
    const query = 'ip: 10.65.0.0/24 and port: 4444 and not pod: shop/*';
    expect(await events('--query', query)).toEqual({ code: 0, stdout: lines(...all.slice(1, 2)), stderr: '' });
    expect((await events('--query', 'port: 4444', '--limit', '1', '--order', 'oldest')).stdout).toBe(
      lines(...all.slice(0, 1)),
    );
    const wrong = await events('--query', 'ip: 10.65.0.256', '--severity', '101');
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain(
      'flag --query: column 5: ip: expected an address, or a network such as 10.65.0.0/16\n',
    );
    expect(wrong.stderr).toContain('  ip: 10.65.0.256\ndpi-agent:       ^');
    expect(wrong.stderr).toContain('flag --severity');
    expect((await events('--query', 'state: open')).stderr).toContain('only the Alerts page knows');
  });

  test('every wrong value is named with its flag and what is expected', async () => {
    const wrong = {
      since: 'yesterday',
      until: '250',
      signature: 'x',
      pod: 'web',
      resource: 'a/b/c',
      ip: '10.0.0',
      severity: '101',
      limit: '-1',
      order: 'newest',
    };
    const flags = Object.entries(wrong).flatMap(([flag, value]) => [`--${flag}`, value]);
    const { code, stdout, stderr } = await events(...flags, '-f');
    for (const [flag, value] of Object.entries(wrong)) {
      expect(stderr).toContain(`dpi-agent: flag --${flag}: "${value}": expected `);
    }
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });

  test('a folder that is not there is an error with advice', async () => {
    await rm(directory, { recursive: true });
    const { code, stderr } = await events();
    expect(stderr).toContain(`can't read the journal in ${directory}: it does not exist: name the folder`);
    expect(code).toBe(2);
  });

  test.each(['SIGINT', 'SIGTERM'] as const)(
    '--follow gives the last ones and what comes over a rotation, and ends with status 0 on %s',
    async (signal) => {
      await writeFile(segment(0), lines(...Array.from({ length: 12 }, (_, number) => foundEvent(number))));
      const child = start('--follow');
      const numbers: number[] = [];
      let rest = '';
      const closed = once(child, 'close');
      for await (const text of child.stdout.setEncoding('utf8')) {
        const parts = (rest + String(text)).split('\n');
        rest = parts.pop() ?? '';
        for (const line of parts) {
          const { record } = JSON.parse(line) as { record: { number: number } };
          numbers.push(record.number);
          if (record.number === 11) {
            await appendFile(segment(0), lines(foundEvent(12)));
            await writeFile(segment(13), lines(foundEvent(13)));
          }
          if (record.number === 13) child.kill(signal);
        }
      }
      expect(numbers).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
      expect(await closed).toEqual([0, null]);
    },
  );

  test('--follow ends with status 0 when its reader is gone', async () => {
    await writeFile(segment(0), lines(foundEvent(0)));
    const child = start('--follow');
    const closed = once(child, 'close');
    await once(child.stdout, 'data');
    child.stdout.destroy();
    await appendFile(segment(0), lines(foundEvent(1), foundEvent(2)));
    expect(await closed).toEqual([0, null]);
  });
});
