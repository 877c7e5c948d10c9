/** What a real rsyslog and a real syslog-ng make of the messages, in both framings and all formats, and by TLS. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createSyslog, type SyslogOptions } from '../../agent/ship/syslog.ts';
import { syslogCollector, whyNoSyslogCollector, type Collector } from '../../scripts/syslog.mjs';
import { createAuthority, type Authority } from '../support/certificates.ts';
import { freePort } from '../support/elasticsearch-server.ts';
import { poll } from '../support/poll.ts';
import { eventOf, itemOf, NEVER } from './http/support.ts';

interface Place {
  directory: string;
  /** What it writes: `<facility> <severity> <time> <host> <program> <message id>|<message>` a line. */
  output: string;
  ports: { octets: number; newline: number; tls: number };
}

interface Kind {
  /** @returns its arguments. */
  configure(place: Place, collector: Collector): Promise<string[]>;
  /** It takes TLS as it comes from Debian. */
  tls: boolean;
}

const KINDS: Record<'rsyslog' | 'syslog-ng', Kind> = {
  rsyslog: { configure: configureRsyslog, tls: false },
  'syslog-ng': { configure: configureSyslogNg, tls: true },
};

async function configureRsyslog({ directory, output, ports }: Place, { modules }: Collector): Promise<string[]> {
  const file = join(directory, 'rsyslog.conf');
  await writeFile(
    file,
    `global(workDirectory="${directory}" maxMessageSize="256k")
module(load="imtcp")
input(type="imtcp" port="${ports.octets}" address="127.0.0.1")
input(type="imtcp" port="${ports.newline}" address="127.0.0.1")
template(name="parts" type="string" string="%syslogfacility-text% %syslogseverity-text% %timereported:::date-rfc3339% %hostname% %app-name% %msgid%|%msg%\\n")
action(type="omfile" file="${output}" template="parts" asyncWriting="off")
`,
  );
  return ['-n', '-f', file, '-i', join(directory, 'pid'), ...(modules === undefined ? [] : ['-M', modules])];
}

async function configureSyslogNg({ directory, output, ports }: Place, collector: Collector): Promise<string[]> {
  const { program, env, modules } = collector;
  const said = spawnSync(program, ['--version'], { encoding: 'utf8', env }).stdout;
  const file = join(directory, 'syslog-ng.conf');
  const tls = `tls(key-file("${directory}/key") cert-file("${directory}/certificate") peer-verify(optional-untrusted))`;
  await writeFile(
    file,
    `@version: ${/^Config version: (\S+)/m.exec(said)?.[1]}
options { log-msg-size(262144); keep-hostname(yes); use-dns(no); dns-cache(no); stats-freq(0); };
source in {
  syslog(ip("127.0.0.1") port(${ports.octets}) transport("tcp"));
  network(ip("127.0.0.1") port(${ports.newline}) transport("tcp") flags(syslog-protocol));
  syslog(ip("127.0.0.1") port(${ports.tls}) transport("tls") ${tls});
};
destination out {
  file("${output}" time-zone("UTC") flush-lines(1)
    template("$FACILITY $LEVEL $S_YEAR-$S_MONTH-\${S_DAY}T$S_HOUR:$S_MIN:$S_SEC.\${S_USEC}Z $HOST $PROGRAM $MSGID|$MSG\\n"));
};
log { source(in); destination(out); };
`,
  );
  const files = ['persist-file', 'pidfile', 'control'].map((name) => `--${name}=${join(directory, name)}`);
  return ['-F', '--no-caps', '-f', file, ...files, ...(modules === undefined ? [] : [`--module-path=${modules}`])];
}

const HEAD = 'local4 alert 2026-01-02T03:04:05.678000Z node-1 dpi-agent ee_event|';

describe.each(['rsyslog', 'syslog-ng'] as const)('%s', (name) => {
  const collector = syslogCollector(name);
  const testHere = collector === undefined ? test.skip : test;
  if (collector === undefined) process.stderr.write(`skipped: ${whyNoSyslogCollector(name)}\n`);
  const kind = KINDS[name];
  let place: Place;
  let authority: Authority;
  let daemon: ChildProcess | undefined;
  let lines = 0;

  beforeAll(async () => {
    if (collector === undefined) return;
    const directory = await mkdtemp(join(tmpdir(), `${name}-`));
    const ports = { octets: await freePort(), newline: await freePort(), tls: await freePort() };
    place = { directory, output: join(directory, 'out'), ports };
    authority = createAuthority(join(directory, 'authority'));
    const { key, certificate } = authority.issue('localhost');
    await writeFile(join(directory, 'key'), key);
    await writeFile(join(directory, 'certificate'), certificate);
    const args = await kind.configure(place, collector);
    const started = spawn(collector.program, args, {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { PATH: process.env['PATH'], ...collector.env },
    });
    daemon = started;
    await poll(() => {
      if (started.exitCode !== null) throw new Error(`${name} ended with ${started.exitCode}`);
      return isListening(ports.newline);
    });
  });

  afterAll(async () => {
    if (daemon === undefined) return;
    const closed = once(daemon, 'close');
    daemon.kill();
    await closed;
    await rm(place.directory, { recursive: true });
  });

  /** What it writes of two events, the second a long one. */
  async function written(options: Partial<SyslogOptions>): Promise<string[]> {
    const { octets, newline, tls } = place.ports;
    const port = options.protocol === 'tls' ? tls : options.framing === 'newline' ? newline : octets;
    const address = `localhost:${port}`;
    const destination = createSyslog({ address, protocol: 'tcp', facility: 'local4', ...options });
    const long = eventOf(1, {}, { payload: 'A'.repeat(50_000) });
    await destination.send([itemOf(eventOf(0)), itemOf(long)], NEVER);
    await destination.close();
    const read = async (): Promise<string[]> =>
      (await readFile(place.output, 'utf8').catch(() => '')).split('\n').slice(lines, -1);
    await poll(async () => (await read()).length >= 2);
    const all = await read();
    lines += all.length;
    return all;
  }

  const messagesOf = async (options: Partial<SyslogOptions>): Promise<void> => {
    const [first = '', second = '', more] = await written(options);
    expect(more).toBeUndefined();
    expect(first.slice(0, HEAD.length)).toBe(HEAD);
    expect(JSON.parse(first.slice(first.indexOf('{')))).toEqual(eventOf(0));
    expect(second).toContain('A'.repeat(50_000));
  };

  testHere.each(['octets', 'newline'] as const)(
    'messages framed by %s are one each, with header and JSON',
    async (framing) => messagesOf({ framing }),
  );

  (kind.tls ? testHere : test.skip)('so they are by TLS, and not to one that nobody vouches for', async () => {
    await messagesOf({ protocol: 'tls', caFile: authority.file });
    const address = `localhost:${place.ports.tls}`;
    const other = createAuthority(join(place.directory, 'other')).file;
    const stranger = createSyslog({ address, protocol: 'tls', facility: 'local4', caFile: other });
    await expect(stranger.send([itemOf(eventOf(0))], NEVER)).rejects.toMatchObject({ failure: 'tls' });
    await stranger.close();
  });

  testHere('CEF and LEEF arrive as they are', async () => {
    const [cef = ''] = await written({ format: 'cef' });
    expect(cef.slice(HEAD.length).trim()).toMatch(/^CEF:0\|dpi-agent\|snort\|3\.1\.84\|1:21562\|/);
    const [leef = ''] = await written({ format: 'leef', framing: 'newline' });
    expect(leef.slice(HEAD.length).trim()).toMatch(/^LEEF:2\.0\|dpi-agent\|snort\|3\.1\.84\|1:21562\|x09\|devTime=/);
  });
});

async function isListening(port: number): Promise<boolean> {
  await delay(10);
  const socket = connect(port, '127.0.0.1').on('error', () => undefined);
  const [event] = await Promise.race([
    once(socket, 'connect').then(() => [true]),
    once(socket, 'close').then(() => [false]),
  ]).catch(() => [false]);
  socket.destroy();
  return event === true;
}
