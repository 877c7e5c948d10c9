/** What a real Alertmanager makes of alerts. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { until } from '../support.ts';
import { eventOf, httpSink, itemOf, NEVER } from './support.ts';

const binary = ['prometheus-alertmanager', 'alertmanager'].find(
  (name) => spawnSync(name, ['--version']).error === undefined,
);
if (binary === undefined) {
  process.stderr.write('skipped: Alertmanager is not installed (Debian: apt-get install prometheus-alertmanager)\n');
}
const testWithAlertmanager = binary === undefined ? test.skip : test;

let directory: string;
let daemon: ChildProcess | undefined;
let url: string;

beforeAll(async () => {
  if (binary === undefined) return;
  directory = await mkdtemp(join(tmpdir(), 'alertmanager-'));
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  url = `http://127.0.0.1:${port}`;
  const file = join(directory, 'config.yml');
  await writeFile(file, 'route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n');
  const args = ['--config.file', file, '--storage.path', directory, '--web.listen-address', `127.0.0.1:${port}`];
  daemon = spawn(binary, [...args, '--cluster.listen-address='], { stdio: 'ignore' });
  await until(async () => {
    await delay(20);
    if (daemon?.exitCode !== null) throw new Error(`${binary} ended`);
    return (await fetch(`${url}/-/ready`).catch(() => undefined))?.ok === true;
  });
});

afterAll(async () => {
  if (daemon?.exitCode !== null) return;
  const closed = once(daemon, 'close');
  daemon.kill();
  await closed;
  await rm(directory, { recursive: true });
});

interface Shown {
  labels: Record<string, string>;
  annotations: Record<string, string>;
  generatorURL: string;
  status: { state: string };
}

async function shown(): Promise<Shown[]> {
  return (await (await fetch(`${url}/api/v2/alerts`)).json()) as Shown[];
}

testWithAlertmanager('alike alerts are one alert, however often and however late they come', async () => {
  const destination = await httpSink(
    { url: `${url}/api/v2/alerts`, format: 'alertmanager', labels: { team: 'soc' } },
    'https://dpi.example.com',
  );
  const events = [eventOf(0), eventOf(1, { source_port: 5 }), eventOf(2, {}, { snort_signature_id: '7' })];
  const sent = events.map((event) => itemOf(event));
  expect(await destination.send(sent, NEVER)).toEqual(sent.map(() => ({ is: 'delivered' })));
  await destination.send(sent.slice(0, 1), NEVER);
  await until(async () => {
    await delay(20);
    return (await shown()).length === 2;
  });
  const alerts = await shown();
  expect(new Set(alerts.map(({ labels }) => labels['signature']))).toEqual(new Set(['1:21562', '1:7']));
  expect(alerts.find(({ labels }) => labels['signature'] === '1:21562')).toMatchObject({
    labels: { alertname: 'DpiAgentAlert', severity: 'critical', team: 'soc', source: 'shop/cart-1' },
    status: { state: 'active' },
  });
  expect(alerts[0]?.generatorURL).toContain('https://dpi.example.com/?range=all&alert=');
  await destination.close();
});
