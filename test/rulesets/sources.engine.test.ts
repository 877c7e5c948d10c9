/** Sources that an agent follows by itself, with real engines: a good version inspects, a bad one stays out. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openLab, type Lab, type Pod } from '../../scripts/lab.ts';
import { createWorkspace, runAgent, type RunningAgent, type Workspace } from '../support/agent.ts';
import { conversation, describeLive, inject } from '../support/live.ts';

const rule = (message: string): string =>
  `alert tcp any any -> any any ( msg:"${message}"; content:"known"; sid:9000400; rev:1; )\n`;

describeLive((engine) => {
  let lab: Lab;
  let red: Pod;
  let workspace: Workspace;
  let agent: RunningAgent | undefined;

  beforeAll(() => {
    lab = openLab(`dpi-f-${engine}`);
    red = lab.addPod({ name: 'red', address: '10.65.1.2' });
  });
  afterAll(() => lab.close());
  beforeEach(() => {
    workspace = createWorkspace();
  });
  afterEach(async () => {
    await agent?.stop('SIGKILL');
    workspace.remove();
  });

  const at = (name: string): string => join(workspace.directory, name);
  const source = { name: 'fresh', file: '', every: '1m' };
  const start = async (config: Record<string, unknown> = {}): Promise<RunningAgent> => {
    const ruleSources = [{ ...source, file: at('fresh.rules') }];
    return runAgent({ lab, engine, workspace, pods: [red], ruleSets: ['fresh'], config: { ruleSources, ...config } });
  };
  let port = 40_000;
  const fires = async (running: RunningAgent, message: string): Promise<void> => {
    inject(lab, workspace, red.netns, 'eth0', conversation('known', port++));
    await running.event(({ record }) => record.message === message);
  };

  test('a version that the engine takes is brought and inspects; one that it does not take changes nothing', async () => {
    writeFileSync(at('fresh.rules'), rule('first'));
    agent = await start();
    await agent.logged(({ msg }) => msg === 'rule source: a new version is in use');
    await fires(agent, 'first');
    const good = readlinkSync(at('sets/fresh'));
    await agent.stop();

    writeFileSync(at('fresh.rules'), rule('second').replace('content', 'contents'));
    agent = await start();
    const refused = await agent.logged(
      ({ msg }) => msg?.startsWith('rule source: its newest version is refused') === true,
    );
    expect(refused).toMatchObject({ source: 'fresh', reason: expect.stringContaining('refuses 1 of 1 rules') });
    expect(readlinkSync(at('sets/fresh'))).toBe(good);
    await fires(agent, 'first');
  }, 120_000);

  test('where nothing else gives rules, the start waits for them', async () => {
    writeFileSync(at('fresh.rules'), rule('only'));
    agent = await start({ rules: [] });
    await fires(agent, 'only');
    expect(readdirSync(at('sets/fresh')).toSorted()).toEqual(['fresh.rules', 'version.json']);
  }, 120_000);
});
