/**
 * Our own native code under AddressSanitizer and UndefinedBehaviorSanitizer, in front of a libpcap that lies, called
 * with anything.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PROJECT } from '../support/project.ts';

const CALLS = 6_000;
const HANGS_MILLIS = 300_000;

const sanitizer = findSanitizer();
const missing = sanitizer === undefined ? 'there is no C compiler with AddressSanitizer' : undefined;
if (missing !== undefined) process.stderr.write(`skipped: ${missing}\n`);

/** The library that has to be loaded first, as gcc knows it. */
function findSanitizer(): string | undefined {
  try {
    const path = execFileSync('cc', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim();
    return existsSync(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

(missing === undefined ? describe : describe.skip)('the native code, called with right and wrong arguments', () => {
  let folder: string;
  let addon: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'dpi-native-'));
    addon = join(folder, 'capture.node');
    const flags = [
      '-g',
      '-O1',
      '-std=gnu11',
      '-shared',
      '-fPIC',
      '-fsanitize=address,undefined',
      '-fno-sanitize-recover=all',
    ];
    const renamed = ['-Dsetsockopt=fake_setsockopt', '-Dgetsockopt=fake_getsockopt'];
    const headers = ['-I', join(PROJECT, 'node_modules/node-api-headers/include')];
    const sources = [join(PROJECT, 'native/capture.c'), join(PROJECT, 'test/capture/native/fake-pcap.c')];
    execFileSync('cc', [...flags, ...renamed, ...headers, ...sources, '-o', addon]);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each([1, 2, 3, 4])('touches no memory that is not its own, and gives whole records (seed %p)', async (seed) => {
    const script = join(PROJECT, 'dist/test/support/hostile.js');
    // Fails with what the sanitizer, or the script, said.
    const { stdout } = await promisify(execFile)(process.execPath, [script, addon, `${seed}`, `${CALLS}`], {
      cwd: folder,
      timeout: HANGS_MILLIS,
      encoding: 'latin1',
      env: {
        ...process.env,
        NODE_OPTIONS: '',
        LD_PRELOAD: sanitizer,
        // Node leaves much to the end of the process.
        ASAN_OPTIONS: 'detect_leaks=0',
        FAKE_PCAP_SEED: `${seed}`,
      },
    });
    const counts = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Record<string, number>;
    // Each function did what it does, at least once.
    expect(Object.keys(counts)).toHaveLength(15);
    expect(Math.min(...Object.values(counts))).toBeGreaterThan(0);
  });
});
