import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import type { EngineName } from '../../agent/engine/engine.ts';
import { findEngine, type FindResult } from '../../agent/engine/find.ts';

// As the engines print them with -V.
const SNORT_3 = `
   ,,_     -*> Snort++ <*-
  o"  )~   Version 3.12.2.0
   ''''    By Martin Roesch & The Snort Team
           Using DAQ version 3.0.25
           Using Hyperscan version 5.4.0 2021-01-26
           Using libpcap version 1.10.3 (with TPACKET_V3)
`;
const SNORT_3_WITHOUT_HYPERSCAN = SNORT_3.replace(/.*Hyperscan.*\n/, '').replace('3.12.2.0', '3.1.58.0');
const SNORT_2 = `
   ,,_     -*> Snort! <*-
  o"  )~   Version 2.9.20 GRE (Build 82)
           Using libpcap version 1.10.3 (with TPACKET_V3)
`;
const SURICATA = 'This is Suricata version 7.0.10 RELEASE\n';

let folder: string;
const path = process.env['PATH'];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-find-'));
  setPath('bin');
});

afterEach(() => {
  process.env['PATH'] = path;
  rmSync(folder, { recursive: true });
});

function setPath(...folders: string[]): void {
  process.env['PATH'] = folders.map((name) => join(folder, name)).join(':');
}

/** An executable that prints this when it is asked for its version. */
function install(name: string, text: string, { stream = 1, status = 0, mode = 0o755 } = {}): string {
  const file = join(folder, name);
  mkdirSync(join(file, '..'), { recursive: true });
  const script = `#!/bin/sh\n[ "$*" = -V ] || exit 9\nprintf %s '${text.replaceAll("'", "'\\''")}' >&${stream}\nexit ${status}\n`;
  writeFileSync(file, script, { mode });
  return file;
}

const find = (type: 'auto' | EngineName, binary?: string, places: string[] = []): Promise<FindResult> =>
  findEngine(type, binary, places);

describe('auto', () => {
  test('takes Snort 3 before Suricata, with the faster search methods of its build', async () => {
    const binary = install('bin/snort', SNORT_3);
    install('bin/suricata', SURICATA);
    expect(await find('auto')).toEqual({
      kind: 'found',
      install: { name: 'snort', binary, version: '3.12.2.0', searchMethods: ['hyperscan'] },
      why: 'Snort 3 is installed',
    });
  });

  test('takes Suricata where Snort is missing, and says so', async () => {
    const binary = install('bin/suricata', SURICATA);
    expect(await find('auto')).toEqual({
      kind: 'found',
      install: { name: 'suricata', binary, version: '7.0.10', searchMethods: [] },
      why: 'Snort 3 (snort) is not on PATH',
    });
  });

  test('takes Suricata beside Snort 2, and says why', async () => {
    const snort = install('bin/snort', SNORT_2, { stream: 2 });
    install('bin/suricata', SURICATA);
    expect(await find('auto')).toMatchObject({
      install: { name: 'suricata' },
      why: `${snort} is Snort 2.9.20, and Snort 3 is needed`,
    });
  });

  test('says of each engine what is wrong, and what to do', async () => {
    install('bin/snort', 'Permission to be a pig denied', { mode: 0o644 });
    const suricata = install('bin/suricata', 'libhtp.so.2: cannot open shared object file', { stream: 2, status: 127 });
    expect(await find('auto')).toEqual({
      kind: 'missing',
      reason:
        `Snort 3 (snort) is not on PATH; ${suricata} -V failed: libhtp.so.2: cannot open shared object file. ` +
        'Install Snort 3, or Suricata (apt-get install suricata), or set engine.binary',
    });
  });

  test('tells by its version output which engine a binary is', async () => {
    expect(await find('auto', install('ids', SURICATA))).toMatchObject({
      install: { name: 'suricata', binary: join(folder, 'ids') },
      why: 'set by engine.binary',
    });
    expect(await find('auto', install('ids', SNORT_3))).toMatchObject({ install: { name: 'snort' } });
  });
});

describe('a type that is set', () => {
  test('is the only one looked for', async () => {
    install('bin/snort', SNORT_3);
    const suricata = install('bin/suricata', SURICATA);
    expect(await find('suricata')).toMatchObject({ install: { binary: suricata }, why: 'set by engine.type' });
    rmSync(suricata);
    expect(await find('suricata')).toMatchObject({
      kind: 'missing',
      reason: expect.stringMatching(/^Suricata \(suricata\) is not on PATH\. /),
    });
  });
});

test.each([
  ['8.0.0', false, 'loses packets of a FIFO'],
  ['8.0.5', false, 'loses packets of a FIFO'],
  ['8.0.5', true, undefined],
  ['8.0.6', false, undefined],
  ['8.0.10', false, undefined],
  ['7.0.10', false, undefined],
])('Suricata %s with the native part (%p): %s', async (version, hasNative, problem) => {
  const binary = install('bin/suricata', SURICATA.replace('7.0.10', version));
  const found = await findEngine('suricata', binary, [], () => hasNative);
  expect(found).toMatchObject(
    problem === undefined
      ? { kind: 'found', install: { version } }
      : { kind: 'missing', reason: expect.stringContaining(`${binary} is Suricata ${version}, which ${problem}`) },
  );
});

describe('a Snort', () => {
  test('without Hyperscan has no faster search method', async () => {
    install('bin/snort', SNORT_3_WITHOUT_HYPERSCAN);
    expect(await find('snort')).toMatchObject({ install: { version: '3.1.58.0', searchMethods: [] } });
  });

  test.each([
    ['', 'is not Snort'],
    ['Version 3.1.1 of something else', 'is not Snort'],
    ['Snort of no version', 'is not Snort'],
    [SURICATA, 'is not Snort'],
    [SNORT_2, 'is Snort 2.9.20, and Snort 3 is needed'],
    [SNORT_2.replace('2.9.20', '30.1'), 'is Snort 30.1, and Snort 3 is needed'],
  ])('that prints %j %s', async (text, problem) => {
    const binary = install('bin/snort', text);
    expect(await find('snort')).toEqual({ kind: 'missing', reason: expect.stringContaining(`${binary} ${problem}`) });
  });

  test('outside of PATH is found where its installation puts it, after PATH', async () => {
    const usual = install('usual/snort', SNORT_3);
    expect(await find('auto', undefined, [join(folder, 'usual')])).toMatchObject({ install: { binary: usual } });
    const onPath = install('bin/snort', SNORT_3);
    expect(await find('auto', undefined, [join(folder, 'usual')])).toMatchObject({ install: { binary: onPath } });
  });
});

describe('on PATH', () => {
  test('the first executable file counts; folders and other files are passed over', async () => {
    setPath('folder', 'text', 'first', 'second');
    mkdirSync(join(folder, 'folder', 'suricata'), { recursive: true });
    install('text/suricata', SURICATA, { mode: 0o644 });
    const first = install('first/suricata', SURICATA);
    install('second/suricata', SURICATA);
    expect(await find('suricata')).toMatchObject({ install: { binary: first } });
  });

  test('relative and empty entries are not looked at', async () => {
    install('bin/suricata', SURICATA);
    process.env['PATH'] = `:.:${relative(process.cwd(), join(folder, 'bin'))}`;
    expect(await find('suricata')).toMatchObject({ kind: 'missing' });
  });
});

describe('engine.binary', () => {
  test('is a path, from the working folder on, or a name on PATH', async () => {
    const binary = install('bin/my-snort', SNORT_3);
    for (const name of [binary, relative(process.cwd(), binary), 'my-snort']) {
      expect(await find('snort', name)).toMatchObject({ install: { binary }, why: 'set by engine.binary' });
    }
  });

  test('that is not there is told, and nothing else is taken', async () => {
    install('bin/snort', SNORT_3);
    const missing = join(folder, 'missing');
    for (const name of [missing, join(folder, 'bin'), 'nosuch']) {
      expect(await find('auto', name)).toEqual({
        kind: 'missing',
        reason: `engine.binary: ${name} is not an executable file`,
      });
    }
  });

  test('that is no engine is told with what it is not', async () => {
    const binary = install('ls', 'ls: invalid option');
    expect(await find('auto', binary)).toEqual({
      kind: 'missing',
      reason: `engine.binary: ${binary} is not Snort; ${binary} is not Suricata`,
    });
    expect(await find('suricata', install('snort', SNORT_3))).toMatchObject({
      reason: expect.stringMatching(/is not Suricata$/),
    });
  });
});
