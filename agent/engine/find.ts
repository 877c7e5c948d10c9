/** Finds the engines installed on this machine, and says why one was chosen. */
import { execFile } from 'node:child_process';
import { access, constants, stat } from 'node:fs/promises';
import { delimiter, isAbsolute, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { loadNative, REBUILD } from '../native.ts';
import type { EngineInstall, EngineName } from './engine.ts';

const run = promisify(execFile);

/** Where installations from source put Snort, looked at after PATH. */
export const SNORT_PLACES = ['/usr/local/bin', '/usr/local/snort/bin', '/opt/snort/bin'];

export type FindResult = { kind: 'found'; install: EngineInstall; why: string } | { kind: 'missing'; reason: string };

/**
 * @param type `auto` prefers Snort 3 and falls back to Suricata.
 * @param binary Path or name of the executable; with `auto` its version output tells which engine it is.
 * @param snortPlaces Folders to look for Snort in, after PATH. @param hasNative Whether the native part is there.
 */
export async function findEngine(
  type: 'auto' | EngineName,
  binary?: string,
  snortPlaces: readonly string[] = SNORT_PLACES,
  hasNative = (): boolean => loadNative().native !== undefined,
): Promise<FindResult> {
  const probe = (name: EngineName, path: string): Promise<EngineInstall | string> => probeOf(name, path, hasNative);
  if (binary !== undefined) {
    const path = await locate(binary);
    if (path === undefined) return { kind: 'missing', reason: `engine.binary: ${binary} is not an executable file` };
    const tried = type === 'auto' ? (['snort', 'suricata'] as const) : [type];
    const problems: string[] = [];
    for (const name of tried) {
      const probed = await probe(name, path);
      if (typeof probed !== 'string') return { kind: 'found', install: probed, why: 'set by engine.binary' };
      problems.push(probed);
    }
    return { kind: 'missing', reason: `engine.binary: ${problems.join('; ')}` };
  }

  const problems: string[] = [];
  for (const name of type === 'auto' ? (['snort', 'suricata'] as const) : [type]) {
    const path = await locate(name, name === 'snort' ? snortPlaces : []);
    if (path === undefined) {
      problems.push(`${name === 'snort' ? 'Snort 3 (snort)' : 'Suricata (suricata)'} is not on PATH`);
      continue;
    }
    const probed = await probe(name, path);
    if (typeof probed === 'string') {
      problems.push(probed);
      continue;
    }
    const why =
      type !== 'auto' ? 'set by engine.type' : name === 'snort' ? 'Snort 3 is installed' : problems.join('; ');
    return { kind: 'found', install: probed, why };
  }
  return {
    kind: 'missing',
    reason: `${problems.join('; ')}. Install Snort 3, or Suricata (apt-get install suricata), or set engine.binary`,
  };
}

/** Where an executable is that is named by its path, or to be found on PATH and in further folders. */
export async function locate(nameOrPath: string, further: readonly string[] = []): Promise<string | undefined> {
  const candidates =
    isAbsolute(nameOrPath) || nameOrPath.includes('/')
      ? [resolve(nameOrPath)]
      : [...(process.env['PATH'] ?? '').split(delimiter).filter(isAbsolute), ...further].map((d) =>
          join(d, nameOrPath),
        );
  for (const candidate of candidates) {
    try {
      await access(candidate, constants.X_OK);
      if ((await stat(candidate)).isFile()) return candidate;
    } catch {
      // The next place may have it.
    }
  }
  return undefined;
}

/** The installation, or what is wrong with it. */
async function probeOf(name: EngineName, binary: string, hasNative: () => boolean): Promise<EngineInstall | string> {
  let output: string;
  try {
    const { stdout, stderr } = await run(binary, ['-V'], { timeout: 20_000, maxBuffer: 1 << 20 });
    output = stdout + stderr;
  } catch (error) {
    const { stderr = '', message = error } = error as { stderr?: string; message?: string };
    return `${binary} -V failed: ${stderr.trim() || String(message)}`;
  }
  if (name === 'suricata') {
    const version = /Suricata version (\d[\w.-]*)/.exec(output)?.[1];
    if (version === undefined) return `${binary} is not Suricata`;
    return whyNotFed(binary, version, hasNative) ?? { name, binary, version, searchMethods: [] };
  }
  const version = /Version (\d+(?:\.\d+)*)/.exec(output)?.[1];
  if (version === undefined || !output.includes('Snort')) return `${binary} is not Snort`;
  if (!version.startsWith('3.')) return `${binary} is Snort ${version}, and Snort 3 is needed`;
  return { name, binary, version, searchMethods: /Hyperscan version/i.test(output) ? ['hyperscan'] : [] };
}

/**
 * Suricata 8.0.0 to 8.0.5 lose what comes with the header of a stream, and only the native part can tell when that was
 * read: https://redmine.openinfosecfoundation.org/issues/8464
 */
function whyNotFed(binary: string, version: string, hasNative: () => boolean): string | undefined {
  if (!/^8\.0\.[0-5](?!\d)/.test(version) || hasNative()) return undefined;
  return `${binary} is Suricata ${version}, which loses packets of a FIFO: install 8.0.6 or later, or build the native part (${REBUILD})`;
}
