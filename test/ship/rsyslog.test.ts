/** What a real rsyslog makes of the messages, in both framings and all formats. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createSyslog, type SyslogOptions } from '../../agent/ship/syslog.ts';
import { eventOf, itemOf, NEVER } from './http/support.ts';
import { until } from './support.ts';

const isThere = spawnSync('rsyslogd', ['-v']).error === undefined;
if (!isThere) process.stderr.write('skipped: rsyslogd is not installed (Debian: apt-get install rsyslog)\n');
const testWithRsyslog = isThere ? test : test.skip;

let directory: string;
let daemon: ChildProcess | undefined;
let port: number;
let output: string;

beforeAll(async () => {
  if (!isThere) return;
  directory = await mkdtemp(join(tmpdir(), 'rsyslog-'));
  output = join(directory, 'out');
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  ({ port } = probe.address() as AddressInfo);
  probe.close();
  const file = join(directory, 'rsyslog.conf');
  await writeFile(
    file,
    `global(workDirectory="${directory}" maxMessageSize="256k")
module(load="imtcp")
input(type="imtcp" port="${port}" address="127.0.0.1")
template(name="parts" type="string" string="%syslogfacility-text% %syslogseverity-text% %timereported:::date-rfc3339% %hostname% %app-name% %msgid%|%msg%\\n")
action(type="omfile" file="${output}" template="parts" asyncWriting="off")
`,
  );
  daemon = spawn('rsyslogd', ['-n', '-f', file, '-i', join(directory, 'pid')], { stdio: 'ignore' });
  await until(async () => {
    await delay(20);
    const socket = connect(port, '127.0.0.1');
    return once(
      socket.on('error', () => undefined),
      'connect',
    ).then(
      () => (socket.destroy(), true),
      () => false,
    );
  });
});

afterAll(async () => {
  if (daemon === undefined) return;
  const closed = once(daemon, 'close');
  daemon.kill();
  await closed;
  await rm(directory, { recursive: true });
});

let lines = 0;

/** What rsyslog writes of two events. */
async function written(options: Pick<SyslogOptions, 'framing' | 'format'>): Promise<string[]> {
  const destination = createSyslog({ address: `127.0.0.1:${port}`, protocol: 'tcp', facility: 'local4', ...options });
  const long = eventOf(1, {}, { payload: 'A'.repeat(50_000) });
  await destination.send([itemOf(eventOf(0)), itemOf(long)], NEVER);
  await destination.close();
  const read = async (): Promise<string[]> =>
    (await readFile(output, 'utf8').catch(() => '')).split('\n').slice(lines, -1);
  await until(async () => {
    await delay(10);
    return (await read()).length >= 2;
  });
  const all = await read();
  lines += all.length;
  return all;
}

const HEAD = 'local4 alert 2026-01-02T03:04:05.678000Z node-1 dpi-agent ee_event|';

testWithRsyslog.each(['octets', 'newline'] as const)(
  'messages framed by %s are one each, with header and JSON',
  async (framing) => {
    const [first = '', second = '', more] = await written({ framing });
    expect(more).toBeUndefined();
    expect(first.startsWith(HEAD)).toBe(true);
    expect(JSON.parse(first.slice(first.indexOf('{')))).toEqual(eventOf(0));
    expect(second).toContain('A'.repeat(50_000));
  },
);

testWithRsyslog('CEF and LEEF arrive as they are', async () => {
  const [cef = ''] = await written({ format: 'cef' });
  expect(cef.slice(HEAD.length).trim()).toMatch(/^CEF:0\|dpi-agent\|snort\|3\.1\.84\|1:21562\|/);
  const [leef = ''] = await written({ format: 'leef', framing: 'newline' });
  expect(leef.slice(HEAD.length).trim()).toMatch(/^LEEF:2\.0\|dpi-agent\|snort\|3\.1\.84\|1:21562\|x09\|devTime=/);
});
