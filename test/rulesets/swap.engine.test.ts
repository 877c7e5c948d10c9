/**
 * Rules that change while an engine inspects: nothing lost, nothing twice, whatever somebody puts into a rule file; and
 * different rules for different pods.
 */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lostOf, zeroCounters } from '../../agent/capture/protocol.ts';
import type { Lab, Pod } from '../../scripts/lab.ts';
import { journaled, lastCounters, payloadOf, runAgent, type RunningAgent, type Workspace } from '../support/agent.ts';
import { snapshot } from '../support/books.ts';
import { describeLive, useLab, useWorkspace } from '../support/live.ts';
import { poll } from '../support/poll.ts';

const SWAPS = Number(process.env['DPI_AGENT_TEST_SWAPS'] ?? 20);
const PORT = 7778;
const KNOWN_SID = 9_000_100;
const rule = (sid: number, content: string, message = content, rev = 1): string =>
  `alert udp any any -> any ${PORT} ( msg:"${message}"; content:"${content}"; sid:${sid}; rev:${rev}; )\n`;

/** Sends a numbered datagram with a text every 50 ms, until it is ended; prints the number of the last one. */
const SENDER = `
const socket = require('node:dgram').createSocket('udp4');
const [address, port, ...texts] = process.argv.slice(1);
let number = 0;
const timer = setInterval(() => { number++; for (const text of texts) socket.send(text + ' <' + number + '>', Number(port), address); }, 50);
process.on('SIGTERM', () => { clearInterval(timer); setTimeout(() => { console.log(number); process.exit(0); }, 500); });
`;

describeLive((engine) => {
  let lab: Lab;
  let red: Pod;
  let blue: Pod;
  let workspace: Workspace;
  let agent: RunningAgent | undefined;
  let senders: ChildProcess[];

  useLab(`dpi-s-${engine}`, (made) => {
    lab = made;
    red = lab.addPod({ name: 'red', address: '10.65.1.2' });
    blue = lab.addPod({ name: 'blue', address: '10.65.1.3' });
  });
  afterEach(() => {
    for (const sender of senders) sender.kill('SIGKILL');
  });
  useWorkspace((made) => {
    workspace = made;
    senders = [];
    mkdirSync(join(workspace.directory, 'sets'));
    writeFileSync(workspace.rules, rule(KNOWN_SID, 'known', 'swap 0'));
  });

  function send(from: Pod, ...texts: string[]): ChildProcess {
    const sender = lab.spawn(from.netns, process.execPath, ['-e', SENDER, '10.65.1.9', String(PORT), ...texts], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    senders.push(sender);
    return sender;
  }

  /** Ends a sender. @returns the number of the last datagram. */
  async function end(sender: ChildProcess): Promise<number> {
    let printed = '';
    sender.stdout?.on('data', (text) => (printed += String(text)));
    sender.kill('SIGTERM');
    await new Promise((resolve) => sender.once('close', resolve));
    return Number(printed);
  }

  /** A file is replaced in one step, as tools do. */
  function write(path: string, text: string): void {
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
  }

  const numberOf = (text: string): number => Number(/<(\d+)>/.exec(text)?.[1]);
  const start = (more: Partial<Parameters<typeof runAgent>[0]> = {}): Promise<RunningAgent> =>
    runAgent({
      lab,
      engine,
      workspace,
      pods: [red],
      ...more,
      config: { alerts: { burst: 1_000_000 }, ...more.config },
    });

  /** Packets of the red pod that did not come as far as the engine. */
  async function lostNow(): Promise<number> {
    const { endpoints } = await snapshot(workspace);
    return lostOf(endpoints.find(({ name }) => name === red.name)?.counters ?? zeroCounters());
  }

  test(`${SWAPS} swaps under a live load: no alert is lost, none comes twice`, async () => {
    const running = await start();
    agent = running;
    const sender = send(red, 'known');
    await running.event(({ record }) => record.message === 'swap 0');
    for (let swap = 1; swap <= SWAPS; swap++) {
      write(workspace.rules, rule(KNOWN_SID, 'known', `swap ${swap}`, swap + 1));
      await running.event(({ record }) => record.message === `swap ${swap}`);
    }
    const last = await end(sender);
    // The first ones may have been sent before the capture began.
    const first = Math.min(...running.events.map((event) => numberOf(payloadOf(event))));
    const sent = last - first + 1;
    await poll(async () => running.events.length + (await lostNow()) >= sent);
    await running.stop();
    const numbers = journaled(workspace).map((event) => numberOf(payloadOf(event)));
    const counts = new Map<number, number>();
    for (const number of numbers) counts.set(number, (counts.get(number) ?? 0) + 1);
    const missing = Array.from({ length: sent }, (_, index) => first + index).filter((n) => !counts.has(n));
    const { droppedKernel, ...others } = lastCounters(running, 'default/red');
    expect(lostOf({ ...others, droppedKernel: 0 })).toBe(0);
    expect({
      missing: missing.slice(droppedKernel),
      twice: [...counts].filter(([, count]) => count > 1),
    }).toEqual({ missing: [], twice: [] });
    expect(running.log.filter(({ msg }) => msg === 'engine reads packets')).toHaveLength(1);
  });

  describe('what somebody puts into a rule file', () => {
    const sets = (): string => join(workspace.directory, 'sets');

    test('bad rules are left out and named, and the rest goes on; what is no rules changes nothing', async () => {
      agent = await start();
      const sender = send(red, 'known', 'further');
      await agent.event(({ record }) => record.message === 'swap 0');
      const poison = join(sets(), 'poison.rules');
      let further = 0;
      /** What was put there is settled when a rule that comes with it fires. */
      const settle = async (text: string): Promise<void> => {
        further++;
        write(poison, `${text}\n${rule(9_000_200, 'further', `further ${further}`, further)}`);
        await agent?.event(({ record }) => record.message === `further ${further}`);
      };
      const from = agent.log.length;
      // A syntax that no engine has, a pattern without its end, and one that never ends on its text.
      await settle(`alert udp any any -> any any ( msg:"bad"; nonsense:1; sid:9000300; )`);
      expect(agent.log.slice(from)).toContainEqual(
        expect.objectContaining({ msg: 'rule is left out', sid: 9_000_300, file: poison, line: 1 }),
      );
      await settle(`alert udp any any -> any any ( msg:"bad"; pcre:"/(a/"; sid:9000301; )`);
      expect(agent.log.slice(from)).toContainEqual(
        expect.objectContaining({ msg: 'rule is left out', sid: 9_000_301 }),
      );
      await settle(
        `alert udp any any -> any any ( msg:"slow"; content:"known"; pcre:"/^(([a-z])+.)+[A-Z]([a-z])+$/"; sid:9000302; )`,
      );
      await settle('include poison.rules\ninclude ../../../../../../etc/passwd\ninclude ../poison.rules');
      await settle(
        Buffer.from(Array.from({ length: 4096 }, (_, index) => (index * 7919) % 256))
          .toString('latin1')
          .replaceAll('\n', '\0'),
      );
      await settle(
        Array.from(
          { length: 2000 },
          (_, index) => `alert udp any any -> any any ( msg:"bad"; nonsense:${index}; sid:${9_100_000 + index}; )`,
        ).join('\n'),
      );

      // What can't be read at all: the set stays as it was.
      writeFileSync(`${poison}.new`, '');
      truncateSync(`${poison}.new`, 1 << 30);
      renameSync(`${poison}.new`, poison);
      await agent.logged(({ msg }) => msg === 'rules cannot be read; the last good ones stay', from);
      const seen = agent.events.length;
      await agent.event(
        (event) => event.record.message === 'swap 0' && !(agent?.events.slice(0, seen) ?? []).includes(event),
      );
      rmSync(poison);
      await end(sender);
      expect(agent.log.filter(({ msg }) => msg === 'engine reads packets')).toHaveLength(1);
    });

    test('a set that is refused as a whole stays as it was, also over a restart; a link that is swapped is a change', async () => {
      // As the kubelet mounts a ConfigMap.
      const mount = (version: number, text: string): void => {
        const folder = join(sets(), `..${version}`);
        mkdirSync(folder);
        writeFileSync(join(folder, 'map.rules'), text);
        symlinkSync(`..${version}`, join(sets(), '..data_tmp'));
        renameSync(join(sets(), '..data_tmp'), join(sets(), '..data'));
      };
      mount(1, rule(9_000_400, 'mapped', 'first'));
      symlinkSync('..data/map.rules', join(sets(), 'map.rules'));
      const options = { config: { rulesLeaveOut: false } };
      agent = await start(options);
      send(red, 'known', 'mapped');
      await agent.event(({ record }) => record.message === 'first');
      mount(2, rule(9_000_400, 'mapped', 'second', 2));
      await agent.event(({ record }) => record.message === 'second');
      const from = agent.log.length;
      mount(3, `${rule(9_000_400, 'mapped', 'third', 3)}alert udp any any -> any any ( nonsense:1; sid:9000401; )\n`);
      const refused = await agent.logged(({ msg }) => msg === 'rule set is refused', from);
      expect(refused).toMatchObject({ set: 'custom', keptLastGood: true });
      await agent.stop();
      agent = await start(options);
      await agent.event(({ record }) => record.message === 'second');
      expect(agent.events.some(({ record }) => record.message === 'third')).toBe(false);
    });
  });

  test('overrides of the engine’s configuration are taken up when their file changes; bad ones leave it as it was', async () => {
    const file = join(workspace.directory, 'overrides');
    writeFileSync(workspace.rules, rule(KNOWN_SID, 'known').replace(String(PORT), '$HTTP_PORTS'));
    // What else Suricata's rules name, a file that has the key must have too.
    const ports = (port: number): string =>
      engine === 'snort'
        ? `ips.variables.ports.HTTP_PORTS = '${port}'\n`
        : `%YAML 1.1\n---\nvars: { address-groups: { HOME_NET: any, EXTERNAL_NET: any }, port-groups: { HTTP_PORTS: "${port}" } }\n`;
    writeFileSync(file, ports(1));
    agent = await start({ config: { engine: { extraConfig: file } } });
    const sender = send(red, 'known');
    const from = agent.log.length;
    write(file, engine === 'snort' ? 'ips = ( not Lua' : '%YAML 1.1\n---\nvars: { [');
    await agent.logged(({ msg }) => msg?.startsWith('engine.extraConfig is refused') === true, from);
    expect(agent.events).toEqual([]);
    write(file, ports(PORT));
    await agent.logged(({ msg }) => msg === 'rules were swapped', from);
    await agent.event(({ record }) => record.message === 'known');
    await end(sender);
  });

  test('two pods have their own rule sets in one engine, and a resource its own events', async () => {
    for (const [set, sid] of [
      ['one', 9_000_501],
      ['two', 9_000_502],
    ] as const) {
      mkdirSync(join(workspace.directory, 'sets', set));
      writeFileSync(
        join(workspace.directory, 'sets', set, 'a.rules'),
        rule(sid, 'shared text', set).replace(String(PORT), '!$SSH_PORTS'),
      );
    }
    agent = await start({
      pods: [
        { ...red, resources: ['default/red'], ruleSets: ['one', 'absent'] },
        { ...blue, resources: ['default/blue'], ruleSets: ['two'] },
      ],
    });
    send(red, 'known shared text');
    send(blue, 'known shared text');
    await agent.event(({ origin }) => origin === 'dpi.default/red');
    await agent.event(({ origin }) => origin === 'dpi.default/blue');
    await agent.event((event) => event.origin === 'dpi.default/red' && numberOf(payloadOf(event)) > 10);
    await agent.stop();
    const seen = new Set(
      journaled(workspace).map(({ origin, source_name, record }) => `${origin} ${source_name} ${record.message}`),
    );
    expect([...seen].toSorted()).toEqual(['dpi.default/blue blue two', 'dpi.default/red red one']);
    // Snort itself has different rules for them; Suricata has those of both, once.
    const counts = agent.log.at(-1)?.['alerts'] as Record<string, number> | undefined;
    expect(counts?.['unattributed']).toBe(0);
    expect(Number(counts?.['unasked']) > 0).toBe(engine === 'suricata');
    expect(agent.log.filter(({ msg }) => msg === 'engine reads packets')).toHaveLength(1);
  });

  const withSuricata = engine === 'suricata' ? test : test.skip;
  withSuricata('packets of a pod that did not ask for a rule use up nothing of its limit', async () => {
    const sets = join(workspace.directory, 'sets');
    for (const name of ['one', 'two']) mkdirSync(join(sets, name));
    writeFileSync(join(sets, 'one', 'a.rules'), rule(9_000_501, 'text', 'one'));
    // Both pods send to the same address.
    const limit = 'threshold:type limit, track by_dst, count 1, seconds 3600;';
    writeFileSync(join(sets, 'two', 'a.rules'), rule(9_000_502, 'text', 'two').replace(' sid:', ` ${limit} sid:`));
    agent = await start({
      pods: [
        { ...red, resources: ['default/red'], ruleSets: ['one'] },
        { ...blue, resources: ['default/blue'], ruleSets: ['two'] },
      ],
    });
    send(red, 'text');
    await agent.event((event) => event.record.message === 'one' && numberOf(payloadOf(event)) > 10);
    send(blue, 'text');
    await agent.event(({ origin, record }) => origin === 'dpi.default/blue' && record.message === 'two');
  });
});
