/** Updates on a disk that loses power; test/sim/updates/ tries them in all ways. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { updateSet } from '../../agent/rulesets/update.ts';
import { createClock, turn } from '../sim/clock.ts';
import { createDisk } from '../sim/disk.ts';

const RULES = '/rules';
const RULE = 'alert tcp any any -> any any (msg:"x"; sid:1; rev:1;)\n';

test('the first version of a set is there after a power cut', async () => {
  const clock = createClock();
  // Of what was not synced, nothing is left.
  const disk = createDisk(clock, () => 0, [RULES]);
  const files = disk.versionFiles;
  let isDone = false;
  const updating = updateSet({
    rulesDirectory: RULES,
    set: 'own',
    from: 'https://rules.example.com/own.rules',
    maxBytes: 1e6,
    timeoutMillis: 60_000,
    userAgent: 'test',
    system: {
      files,
      id: () => 'test',
      async fetch(_options, file) {
        await files.writeFile(file, RULE, { mode: 0o644 });
        return { is: 'fetched', sha256: createHash('sha256').update(RULE).digest('hex'), verified: 'none' };
      },
      async unpack(_file, _name, directory) {
        await files.writeFile(join(directory, 'own.rules'), RULE, { mode: 0o644 });
        return {};
      },
    },
  }).finally(() => (isDone = true));
  while (!isDone) {
    await turn();
    if (!isDone) clock.step();
  }
  const { version } = await updating;
  disk.restart('power cut');
  expect(disk.target(join(RULES, 'own'))).toBe(`.versions/own/${version}`);
  expect(disk.peek(join(RULES, '.versions/own', version, 'own.rules'))?.toString()).toBe(RULE);
});
