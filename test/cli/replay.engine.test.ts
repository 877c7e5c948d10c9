/** `dpi-agent replay` with the real engines. */
import { describe, expect, test } from '@jest/globals';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { EeEvent } from '../../agent/events/event.ts';
import { parsePackets } from '../../agent/evidence/read.ts';
import { MARKER, MARKER_SID, payloadOf, type Workspace } from '../support/agent.ts';
import { runCli, type CliResult } from '../support/cli.ts';
import { describeEngine } from '../support/engines.ts';
import { shareWorkspace } from '../support/live.ts';
import { PROJECT } from '../support/project.ts';
import {
  httpConversation,
  LINKTYPE,
  tcpConversation,
  udpPacket,
  writePcap,
  writePcapng,
  type Frame,
} from '../support/packets.ts';

const START = 1_700_000_000_000_000;

function alerting(text: string, port = 40_000): Frame[] {
  return tcpConversation({ clientPort: port, start: START, exchange: [{ from: 'client', data: `${MARKER} ${text}` }] });
}

const events = (result: CliResult): EeEvent[] =>
  result.stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as EeEvent);

/** What does not depend on the run. */
const essence = ({ time, source_ip, source_port, dest_ip, dest_port, record }: EeEvent): unknown => ({
  time,
  source: [source_ip, source_port],
  destination: [dest_ip, dest_port],
  sid: record.snort_signature_id,
  timestamp: record.timestamp,
  packet: record.packet_number,
});

for (const engine of ['snort', 'suricata'] as const) {
  describeEngine(engine, () => {
    let workspace: Workspace;
    const file = (name: string, bytes: Buffer): string => {
      const path = join(workspace.directory, name);
      writeFileSync(path, bytes);
      return path;
    };
    const replay = (files: string[], ...args: string[]): Promise<CliResult> =>
      runCli(['replay', '-e', engine, '--rule-sets', '', '--rules', workspace.rules, ...files, ...args]);
    shareWorkspace((made) => (workspace = made));

    test('pcap, pcapng, gzip and stdin give the same events, at the times of the packets', async () => {
      const frames = alerting('one');
      const pcap = writePcap(frames);
      const results = [
        await replay([file('a.pcap', pcap)], '-o', 'json'),
        await replay([file('a.pcapng', writePcapng(frames))], '-o', 'json'),
        await replay([file('a.pcap.gz', gzipSync(pcap))], '-o', 'json'),
        await runCli(['replay', '-e', engine, '--rule-sets', '', '--rules', workspace.rules, '-', '-o', 'json'], {
          stdin: pcap,
        }),
      ];
      for (const { code, stderr } of results) {
        expect(stderr).toContain(`${frames.length} packets read, ${frames.length} inspected, 0 truncated, 1 alert\n`);
        expect(code).toBe(0);
      }
      const [first, ...others] = results.map((result) => events(result).map(essence));
      expect(first).toHaveLength(1);
      expect(first).toEqual([expect.objectContaining({ time: 1_700_000_000, sid: String(MARKER_SID) })]);
      for (const other of others) expect(other).toEqual(first);
    });

    test('the table names time, severity, rule, flow and message, and the summary counts by signature', async () => {
      const { stdout, code } = await replay([file('table.pcap', writePcap(alerting('table')))]);
      expect(stdout).toMatch(
        /^TIME \(UTC\) .* MESSAGE\n2023-11-14 22:13:20\.\d{6} .* 1:9000001:1 .* 10\.0\.0\.1:40000 → 10\.0\.0\.2:80 .* TEST marker\n/,
      );
      expect(stdout).toMatch(/\n +1 {2}1:9000001:1 +TEST marker\n$/);
      expect(stdout).not.toContain('\u001B');
      expect(code).toBe(0);
    });

    if (engine === 'snort')
      test('a packet that fires, and its body too, is one event, whose flow began at a whole second', async () => {
        const rules = file(
          'both.rules',
          Buffer.from('alert tcp any any -> any any ( msg:"b"; content:"smk="; sid:7; )'),
        );
        const recording = join(PROJECT, 'scripts/demo.pcap');
        const result = await replay([recording], '--rules', rules, '-o', 'json');
        expect(result.stderr).toContain(', 1 alert, 1 more for the body of a packet that fired\n');
        const [event, ...more] = events(result);
        expect(event?.record.flow?.start).toMatch(/T\d\d:\d\d:\d\dZ$/);
        expect(more).toEqual([]);
      });

    test('the same flow in two files is two flows, and each event names its file', async () => {
      const files = ['x.pcap', 'y.pcap'].map((name) => file(name, writePcap(alerting(name))));
      const found = events(await replay(files, '-o', 'json'));
      expect(found.map((event) => [event.origin, payloadOf(event)])).toEqual([
        ['dpi.replay/x.pcap', `${MARKER} x.pcap`],
        ['dpi.replay/y.pcap', `${MARKER} y.pcap`],
      ]);
    });

    test('events of two files of one name in two folders are told apart', async () => {
      const files = ['a', 'b'].map((folder) => {
        mkdirSync(join(workspace.directory, folder), { recursive: true });
        return file(`${folder}/same.pcap`, writePcap(alerting('same')));
      });
      const found = events(await replay([...files, files[0] ?? ''], '-o', 'json'));
      expect(found.map(({ origin, record }) => [origin, record.seen_at[0]?.name])).toEqual([
        ['dpi.replay/a_same.pcap', 'a/same.pcap'],
        ['dpi.replay/b_same.pcap', 'b/same.pcap'],
        ['dpi.replay/a_same.pcap_2', 'a/same.pcap#2'],
      ]);
    });

    test('what precedes the end of a truncated file is inspected; file and offset are named, exit status 1', async () => {
      const whole = writePcap([...alerting('before'), ...alerting('cut off', 41_000)]);
      const path = file('cut.pcap', whole.subarray(0, whole.length - 200));
      const result = await replay([path], '-o', 'json');
      expect(events(result).map(payloadOf)).toContain(`${MARKER} before`);
      expect(result.stderr).toMatch(new RegExp(`${path}: damaged at offset \\d+: `));
      expect(result.code).toBe(1);
    });

    test('a corrupt record ends its file only: the next file is inspected', async () => {
      const bytes = writePcap([...alerting('good'), ...alerting('bad', 41_000)]);
      bytes.writeUInt32LE(0x7fff_ffff, 24 + 8);
      const result = await replay(
        [file('corrupt.pcap', bytes), file('fine.pcap', writePcap(alerting('fine')))],
        '-o',
        'json',
      );
      expect(events(result).map(payloadOf)).toEqual([`${MARKER} fine`]);
      expect(result.stderr).toContain('corrupt.pcap: damaged at offset 24: ');
      expect(result.code).toBe(1);
    });

    test('what is wrong with a damaged file is said as it is, and what precedes it is inspected', async () => {
      const pcap = writePcap(alerting('before'));
      const gzip = gzipSync(pcap);
      const tar = Buffer.alloc(1024);
      tar.write('x.pcap');
      tar.write('ustar', 257);
      const replayed = async (name: string, bytes: Buffer): Promise<CliResult> =>
        replay([file(name, bytes)], '-o', 'json');
      const zeros = await replayed('tail.pcap', Buffer.concat([pcap, Buffer.alloc(5000)]));
      expect(events(zeros).map(payloadOf)).toEqual([`${MARKER} before`]);
      const stdin = ['replay', '-e', engine, '--rule-sets', '', '--rules', workspace.rules, '-'];
      for (const [result, reason] of [
        [zeros, `damaged at offset ${pcap.length}: zeros: the rest was not written`],
        [await replayed('cut.pcap.gz', gzip.subarray(0, -12)), 'the gzip file ends too early'],
        [
          await replayed('bad.pcap.gz', Buffer.concat([gzip.subarray(0, -8), Buffer.alloc(8)])),
          'the gzip file is damaged',
        ],
        [await replayed('twice.pcap.gz', gzipSync(gzip)), 'gzip within gzip'],
        [await replayed('x.tar.gz', gzipSync(tar)), 'a tar archive, not a capture file'],
        [await runCli(stdin, { stdin: gzip }), 'gzip, which standard input may not be'],
        [await runCli(stdin, { stdin: tar }), 'a tar archive, not a capture file'],
      ] as const) {
        expect(result.stderr).toContain(reason);
        expect(result.code).toBe(1);
      }
    });

    test('frames without Ethernet header are inspected', async () => {
      const ends = { source: '10.0.0.1', destination: '10.0.0.2' };
      const packet = udpPacket({ ...ends, sourcePort: 1, destinationPort: 2, payload: `${MARKER} raw` });
      const withFamily = (family: number[]): Buffer => Buffer.concat([Buffer.from(family), packet]);
      const sll = Buffer.concat([Buffer.from([0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x08, 0x00]), packet]);
      for (const [linkType, data] of [
        [LINKTYPE.raw, packet],
        [LINKTYPE.linuxSll, sll],
        [LINKTYPE.null, withFamily([2, 0, 0, 0])],
        [LINKTYPE.loop, withFamily([0, 0, 0, 2])],
      ] as const) {
        const result = await replay(
          [file(`link${linkType}.pcap`, writePcap([{ timeMicros: START, data }], { linkType }))],
          '-o',
          'json',
        );
        expect(events(result).map(payloadOf)).toEqual([`${MARKER} raw`]);
      }
    });

    test('packets of a link type that no engine reads are counted, and their type is named', async () => {
      const bluetooth = writePcap([{ timeMicros: START, data: Buffer.from('not Ethernet') }], { linkType: 201 });
      const { stdout, stderr, code } = await replay([file('bluetooth.pcap', bluetooth)]);
      expect(stdout).toContain('1 packet read, 0 inspected, 0 truncated, 1 of unsupported link types, 0 alerts');
      expect(stderr).toContain('bluetooth.pcap: 1 packet is not inspected: no engine reads link type 201 (Bluetooth');
      expect(code).toBe(1);
    });

    test('rules that the engine refuses are named by file and line', async () => {
      const rules = join(workspace.directory, 'refused.rules');
      writeFileSync(rules, 'alert tcp any any -> any any ( msg:"x"; contnt:"y"; sid:1; )\n');
      const { stderr, code } = await runCli([
        'replay',
        '-e',
        engine,
        '--rule-sets',
        '',
        '--rules',
        rules,
        file('r.pcap', writePcap(alerting('r'))),
      ]);
      expect(stderr).toContain(`${rules}:1`);
      expect(stderr).toContain('contnt');
      expect(code).toBe(1);
    });

    test('each alert has the packets of its own connection, and says what that said', async () => {
      const asked = (seconds: number, status: number, path = MARKER): Frame[] =>
        httpConversation({
          clientPort: 40_000,
          start: START + seconds * 1e6,
          clientSequence: 1000 + seconds,
          request: { path: `/${path}` },
          response: { status, body: 'x'.repeat(20_000) },
        });
      // The same ends three times, an alert in the first and the last; then the same in another file.
      const connections = [asked(0, 200), asked(10, 500, 'other'), asked(20, 404)];
      const files = [
        file('first.pcap', writePcap(connections.flat())),
        file('second.pcap.gz', gzipSync(writePcapng(asked(0, 302)))),
      ];
      const directory = join(workspace.directory, 'packets');
      const result = await replay(files, '-o', 'json', '--packets', directory);
      expect({ code: result.code, stderr: result.stderr }).toEqual({
        code: 0,
        stderr: expect.stringContaining(`packets of 3 alerts are in ${directory}\n`),
      });
      const found = events(result);
      expect(found.map(({ record }) => [record.outcome, record.app?.http?.status, record.app?.http?.url])).toEqual([
        ['2xx', 200, `/${MARKER}`],
        ['4xx', 404, `/${MARKER}`],
        ['3xx', 302, `/${MARKER}`],
      ]);
      const expected = [connections[0], connections[2], asked(0, 302)];
      for (const [index, { record }] of found.entries()) {
        const { packets } = record;
        const kept = parsePackets(readFileSync(join(directory, packets?.file ?? '')));
        expect(kept.map(({ frame }) => Buffer.from(frame))).toEqual(expected[index]?.map(({ data }) => data));
        expect(packets).toMatchObject({ count: kept.length, complete: true });
      }
      const piped = await replay(['-'], '--packets', directory);
      expect([piped.code, piped.stderr]).toEqual([2, expect.stringContaining('stdin can be read only once')]);
    });

    test('nothing is left behind', async () => {
      // A folder of its own: other tests replay at the same time.
      const temporary = join(workspace.directory, 'tmp');
      mkdirSync(temporary, { mode: 0o711 });
      const args = ['replay', '-e', engine, '--rule-sets', '', '--rules', workspace.rules];
      const left = file('left.pcap', writePcap(alerting('left')));
      expect((await runCli([...args, left], { env: { TMPDIR: temporary } })).code).toBe(0);
      expect(readdirSync(temporary)).toEqual([]);
    });

    test("the tutorial's request fires the built-in rule", async () => {
      const request = { method: 'POST', host: 'backend', headers: { 'User-Agent': 'Mozilla/4.0' }, body: 'smk=1234' };
      const path = file('tutorial.pcap', writePcap(httpConversation({ request })));
      const found = events(await runCli(['replay', '-e', engine, path, '-o', 'json']));
      expect(found.map(({ record }) => record.snort_signature_id)).toEqual(['1000001']);
      expect(found[0]).toMatchObject({ severity: 100, mitre_ids: ['T1071.001'], record: { service: 'http' } });
    });
  });
}

describeEngine('snort', () => {
  let workspace: Workspace;
  shareWorkspace((made) => (workspace = made));

  test('unified2 gives the same events as JSON, with the texts of the rules', async () => {
    const path = join(workspace.directory, 'u2.pcap');
    writeFileSync(path, writePcap([...alerting('first'), ...alerting('second', 41_000)]));
    const [json, unified2] = await Promise.all(
      ['json', 'unified2'].map((format) =>
        runCli([
          'replay',
          '-e',
          'snort',
          '--rule-sets',
          '',
          '--rules',
          workspace.rules,
          path,
          '-o',
          'json',
          '--engine.output',
          format,
        ]),
      ),
    );
    if (json === undefined || unified2 === undefined) throw new Error('not run');
    const told = (event: EeEvent): unknown => ({
      ...(essence(event) as object),
      packet: undefined,
      message: event.record.message,
    });
    expect(events(unified2).map(told)).toEqual(events(json).map(told));
    expect(events(unified2)).toHaveLength(2);
  });
});

describe('replay without any engine running', () => {
  let workspace: Workspace;
  shareWorkspace((made) => (workspace = made));

  test.each([
    ['text', Buffer.from('<html><body>not found</body></html>')],
    ['nothing', Buffer.alloc(0)],
    ['random bytes', Buffer.from('8f1c02aa77e0'.repeat(20), 'hex')],
  ])('a file of %s is not a capture: the message says so, exit status 2', async (_, bytes) => {
    const path = join(workspace.directory, 'x.bin');
    writeFileSync(path, bytes);
    const { code, stderr, stdout } = await runCli(['replay', path]);
    expect(stderr).toContain(`dpi-agent: ${path}: not a capture file: `);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });

  test('a missing file and a folder are named, all of them at once, exit status 2', async () => {
    const { code, stderr } = await runCli(['replay', '/no/such.pcap', workspace.directory]);
    expect(stderr).toContain('/no/such.pcap: ENOENT');
    expect(stderr).toContain(`${workspace.directory}: EISDIR`);
    expect(code).toBe(2);
  });
});
