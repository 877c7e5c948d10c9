/** An update that is killed at each of its steps on the disk leaves the old version or the new one, whole. */
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  utimesSync,
  readdirSync,
  lstatSync,
  lutimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from '@jest/globals';
import { PROJECT } from '../support/project.ts';

/** Ends its process before the call of this number that changes something on the disk. */
const KILLER = `
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
const { updateSet } = await import(process.argv[1]);
let left = Number(process.argv[2]);
for (const name of ['mkdir', 'open', 'rename', 'rm', 'symlink', 'writeFile']) {
  const call = fs[name];
  fs[name] = (...args) => {
    if (left-- === 0) process.kill(process.pid, 'SIGKILL');
    return call(...args);
  };
}
syncBuiltinESMExports();
const [rulesDirectory, from] = process.argv.slice(3);
await updateSet({ rulesDirectory, set: 'own', from, maxBytes: 1e6, timeoutMillis: 60000, userAgent: 'test' });
`;

async function update(rulesDirectory: string, from: string, killedAt: number): Promise<boolean> {
  const module = pathToFileURL(join(PROJECT, 'dist/agent/rulesets/update.js')).href;
  const args = ['--input-type=module', '-e', KILLER, module, String(killedAt), rulesDirectory, from];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) =>
    child.once('close', (...ended) => resolve(ended)),
  );
  if (signal === null) expect(code).toBe(0);
  return signal === 'SIGKILL';
}

const rule = (sid: number): string => `alert tcp any any -> any any ( msg:"rule"; sid:${sid}; )\n`;

test('killed at each step', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'update-kill-'));
  const rulesDirectory = join(directory, 'rules');
  const from = join(directory, 'a.rules');
  const installed = (): string => readFileSync(join(rulesDirectory, 'own/a.rules'), 'utf8');
  try {
    writeFileSync(from, rule(1));
    expect(await update(rulesDirectory, from, Infinity)).toBe(false);
    let steps = 0;
    const seen = new Set<string>();
    for (let before = 1; ; before++) {
      const next = before + 1;
      writeFileSync(from, rule(next));
      if (!(await update(rulesDirectory, from, steps++))) break;
      expect([rule(before), rule(next)]).toContain(installed());
      expect(existsSync(join(rulesDirectory, 'own/version.json'))).toBe(true);
      seen.add(installed() === rule(next) ? 'new' : 'old');
      // Whoever comes next is not kept from it.
      expect(await update(rulesDirectory, from, Infinity)).toBe(false);
      expect(installed()).toBe(rule(next));
    }
    expect([...seen].toSorted()).toEqual(['new', 'old']);
    expect(steps).toBeGreaterThan(12);
    // An hour later nothing is left of those that were killed.
    for (const folder of [rulesDirectory, join(rulesDirectory, '.versions/own')]) {
      for (const name of readdirSync(folder).filter((each) => each.includes('.new-'))) {
        const path = join(folder, name);
        (lstatSync(path).isSymbolicLink() ? lutimesSync : utimesSync)(path, 1, 1);
      }
    }
    writeFileSync(from, rule(1000));
    await update(rulesDirectory, from, Infinity);
    const left = [rulesDirectory, join(rulesDirectory, '.versions/own')].flatMap((folder) => readdirSync(folder));
    expect(left.filter((name) => name.includes('.new'))).toEqual([]);
    expect(left).toHaveLength(5);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}, 300_000);
