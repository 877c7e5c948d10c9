import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { openJournal } from '../../agent/journal/journal.ts';

const fixture = (name: string): string => path.join(import.meta.dirname, 'fixtures', name);

test('a writer that is killed again and again leaves whole lines, nothing twice, and all that it confirmed', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'killed-'));
  try {
    let confirmed = 0;
    for (let round = 0; round < 6; round++) {
      const child = spawn(process.execPath, ['--import', fixture('typescript.mjs'), fixture('writer.ts'), directory], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let output = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        // At a random number of confirmed batches: wherever the writer then is.
        if (output === '') setTimeout(() => child.kill('SIGKILL'), Math.random() * 150);
        output += text;
      });
      const [, signal] = await once(child, 'close');
      expect(signal).toBe('SIGKILL');
      const printed = output.slice(0, output.lastIndexOf('\n')).split('\n').map(Number);
      expect(printed[0]).toBeGreaterThan(confirmed);
      confirmed = printed.at(-1) ?? 0;
    }

    const journal = await openJournal({
      directory,
      segmentSize: 20_000,
      maxSize: 1e9,
      segmentAge: 1e9,
      maxAge: 0,
      fsync: true,
    });
    const positions: string[] = [];
    for (const segment of journal.segments()) {
      expect(segment.sequence).toBe(positions.length);
      const lines = (await readFile(segment.path, 'utf8')).split('\n');
      expect(lines.pop()).toBe('');
      for (const line of lines) positions.push(JSON.parse(line).record.position);
    }
    await journal.close();
    expect(positions).toEqual(positions.map((_, index) => `lane0:${index + 1}`));
    expect(positions.length).toBeGreaterThanOrEqual(confirmed);
    expect(confirmed).toBeGreaterThan(6);
  } finally {
    await rm(directory, { recursive: true });
  }
});
