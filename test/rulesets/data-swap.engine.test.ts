/** Files that rules name, changed while Suricata inspects: in the rules of all, and in those of single pods. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openLab, type Lab, type Pod } from '../../scripts/lab.ts';
import { createWorkspace, runAgent, type RunningAgent, type Workspace } from '../support/agent.ts';
import { describeLive } from '../support/live.ts';

const PORT = 7778;
const RED = '10.65.2.2';
const BLUE = '10.65.2.3';
/** Of nobody here. */
const OTHER = '192.0.2.1';

/** Each is a flow of its own: Suricata asks for reputations once in a flow. */
const SENDER = `
setInterval(() => {
  const socket = require('node:dgram').createSocket('udp4');
  socket.send('known', ${PORT}, '10.65.2.9', () => socket.close());
}, 50);
`;

const rules = (sid: number): string =>
  [`ip.src; dataset:isset,ips,type ip,load lists/ips.lst; sid:${sid};`, `iprep:src,Bad,>,10; sid:${sid + 1};`]
    .map((options) => `alert udp any any -> any ${PORT} (msg:"named ${sid}"; ${options} rev:1;)\n`)
    .join('');

describeLive((engine) => {
  // Snort's rules name no files.
  if (engine === 'snort') return;
  let lab: Lab;
  let pods: Pod[];
  let workspace: Workspace;
  let agent: RunningAgent | undefined;
  let senders: ChildProcess[] = [];
  beforeAll(() => {
    lab = openLab(`dpi-d-${engine}`);
    pods = [lab.addPod({ name: 'red', address: RED }), lab.addPod({ name: 'blue', address: BLUE })];
  });
  afterAll(() => lab.close());
  beforeEach(() => {
    workspace = createWorkspace();
  });
  afterEach(async () => {
    for (const sender of senders) sender.kill('SIGKILL');
    senders = [];
    await agent?.stop('SIGKILL');
    workspace.remove();
  });

  /** Likewise in both sets; a file is replaced in one step. */
  function write(name: string, text: string): void {
    for (const set of ['one', 'two']) {
      const path = join(workspace.directory, 'sets', set, name);
      mkdirSync(join(path, '..'), { recursive: true });
      writeFileSync(`${path}.new`, text);
      renameSync(`${path}.new`, path);
    }
  }

  const signature = (sid: number) => (event: { record: { snort_signature_id?: string } }) =>
    event.record.snort_signature_id === String(sid);

  /** How often an engine was started. */
  const starts = (): number => agent?.log.filter(({ msg }) => msg === 'engine reads packets').length ?? 0;

  beforeEach(() => {
    write('lists/ips.lst', `${OTHER}\n`);
    write('categories.txt', '1,Bad,x\n');
    write('bad.list', `${OTHER},1,100\n`);
    writeFileSync(join(workspace.directory, 'sets/one/a.rules'), rules(100));
    writeFileSync(join(workspace.directory, 'sets/two/a.rules'), rules(200));
  });

  async function start(more: { ruleSets?: string[] }): Promise<RunningAgent> {
    const [red, blue] = pods;
    if (red === undefined || blue === undefined) throw new Error('no pods');
    agent = await runAgent({ lab, engine, workspace, pods: [red, { ...blue, ...more }], ruleSets: ['one'] });
    senders = pods.map(({ netns }) => lab.spawn(netns, process.execPath, ['-e', SENDER], { stdio: 'inherit' }));
    return agent;
  }

  test('are taken up while it runs, categories by another start', async () => {
    const running = await start({});
    write('lists/ips.lst', `${OTHER}\n${RED}\n`);
    await running.event(signature(100));
    write('bad.list', `${OTHER},1,100\n10.65.2.0/24,1,50\n`);
    await running.event(signature(101));
    expect(starts()).toBe(1);
    const from = running.log.length;
    write('categories.txt', '1,Bad,x\n2,Worse,y\n');
    await running.logged(({ msg }) => msg === 'engine reads packets', from);
    expect(starts()).toBe(2);
  }, 300_000);

  test('are taken up by the rules of single pods too', async () => {
    const running = await start({ ruleSets: ['two'] });
    write('lists/ips.lst', `${OTHER}\n${RED}\n${BLUE}\n`);
    await running.event(signature(100));
    await running.event(signature(200));
    write('bad.list', `${OTHER},1,100\n10.65.2.0/24,1,50\n`);
    await running.event(signature(101));
    await running.event(signature(201));
  }, 300_000);
});
