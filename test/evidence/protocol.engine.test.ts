/** What the flow of a live alert said, with both engines. */
import { beforeAll, expect, test } from '@jest/globals';
import { join } from 'node:path';
import type { EeEvent } from '../../agent/events/event.ts';
import { evidenceDirectory, findEvidence, type EvidenceRecord } from '../../agent/evidence/place.ts';
import type { Lab, Pod } from '../../scripts/lab.ts';
import { MARKER, runAgent, type Workspace } from '../support/agent.ts';
import { runCli } from '../support/cli.ts';
import { describeLive, useLab, useWorkspace } from '../support/live.ts';
import { poll } from '../support/poll.ts';

/** Takes its time, so that the alert is there before the answer. */
const HTTP_SERVER = `
  require('node:http').createServer((request, response) => {
    setTimeout(() => response.writeHead(403, { 'content-type': 'text/plain' }).end('not for you'), 300);
  }).listen(8080, '::', () => console.log('up'));`;

/** Prints what a sink sends. */
const COLLECTOR = `
  require('node:http').createServer(async (request, response) => {
    for await (const part of request) process.stdout.write(part);
    process.stdout.write('\\n');
    response.end();
  }).listen(9200, '127.0.0.1', () => console.log('up'));`;

describeLive((engine) => {
  let collected = '';
  let lab: Lab;
  let workspace: Workspace;
  let backend: Pod;
  let attacker: Pod;
  useLab(`dpi-p-${engine}`, (made) => (lab = made));
  useWorkspace((made) => (workspace = made));
  beforeAll(async () => {
    backend = lab.addPod({ name: 'backend', address: '10.65.2.2' });
    attacker = lab.addPod({ name: 'attacker', address: '10.65.2.3' });
    const child = lab.spawn(backend.netns, process.execPath, ['-e', HTTP_SERVER], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    const collector = lab.spawn(lab.node, process.execPath, ['-e', COLLECTOR], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => collector.stdout?.once('data', resolve));
    collector.stdout?.on('data', (data: Buffer) => (collected += data.toString()));
  });

  test('a request, and its answer that comes after the alert', async () => {
    const sinks = [{ name: 'collector', http: { url: 'http://127.0.0.1:9200/', batchMillis: 0 } }];
    const config = { evidence: { keep: 'full' }, sinks };
    const agent = await runAgent({ lab, engine, workspace, pods: [backend], config });
    const url = `http://${backend.address}:8080/login?${MARKER}`;
    lab.exec(attacker.netns, 'curl', '-s', '-A', 'probe/1', url);
    const event: EeEvent = await agent.event(({ dest_port }) => dest_port === 8080);
    const evidence = await poll<EvidenceRecord | undefined>(() =>
      findEvidence(evidenceDirectory(workspace.journal), event.record.event_id),
    );
    expect(evidence).toMatchObject({
      outcome: '4xx',
      app: {
        protocol: 'http',
        http: {
          method: 'GET',
          host: `${backend.address}:8080`,
          url: `/login?${MARKER}`,
          user_agent: 'probe/1',
          status: 403,
          response: { content_type: 'text/plain', body: 'not for you' },
        },
      },
      traffic: { packets_to_server: expect.any(Number) },
    });
    // The event was journaled before the answer came; sinks have it with that.
    await poll(() => collected.endsWith('\n'));
    const [sent] = JSON.parse(collected.trim().split('\n')[0] ?? '') as EeEvent[];
    expect(sent?.record).toMatchObject({ ...evidence, event_id: event.record.event_id });
    const flags = ['-c', join(workspace.directory, 'dpi-agent.yaml'), '-o', 'json'];
    const found = await runCli(['events', '--host', backend.address, '--url', MARKER, ...flags]);
    expect((JSON.parse(found.stdout.split('\n')[0] ?? '') as EeEvent).record.app).toEqual(evidence.app);
    const shownEvent = await runCli(['events', 'show', event.record.event_id, ...flags.slice(0, 2)]);
    for (const part of [
      /answered: the client's error/,
      /http status +403\n/,
      /http response body +not for you\n/,
      new RegExp(MARKER),
    ])
      expect(shownEvent.stdout).toMatch(part);
    expect((await runCli(['events', '--host', 'elsewhere.test', ...flags])).stdout).toBe('');
  });
});
