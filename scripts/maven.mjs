/** Fetches servers for tests, which are published as archives, by Maven. Plain JavaScript with Node's own modules. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where a program for tests is kept, once fetched. */
export function cached(name) {
  const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return join(cache, 'dpi-agent', name);
}

/** Programs that fetching needs and that are not installed. */
export function missingFetchers() {
  return ['mvn', 'unzip'].filter((name) => spawnSync(name, ['-v'], { stdio: 'ignore' }).error !== undefined);
}

/**
 * Unpacks an archive into a folder; what it has in one folder of its own, without that one.
 * @throws Error with what Maven said.
 */
export function fetchZip({ group, name, version }, directory) {
  mkdirSync(join(directory, '..'), { recursive: true });
  const work = mkdtempSync(`${directory}-`);
  try {
    run('mvn', ['-q', '-B', 'dependency:get', `-Dartifact=${group}:${name}:${version}:zip`, '-Dtransitive=false']);
    run('unzip', ['-q', archive({ group, name, version }), '-d', work]);
    rmSync(directory, { recursive: true, force: true });
    const inside = join(work, `${name}-${version}`);
    renameSync(existsSync(inside) ? inside : work, directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Where Maven put it. */
function archive({ group, name, version }) {
  const usual = join(homedir(), '.m2', 'repository');
  const path = join(...group.split('.'), name, version, `${name}-${version}.zip`);
  if (existsSync(join(usual, path))) return join(usual, path);
  // A machine may keep its repository elsewhere.
  const local = run('mvn', ['-q', '-B', 'help:evaluate', '-Dexpression=settings.localRepository', '-DforceStdout']);
  return join(local.trim(), path);
}

/** @returns what it prints. @throws Error with that when it fails. */
export function run(program, args) {
  const { status, error, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 64 << 20 });
  if (status === 0) return stdout;
  const said = `${stdout ?? ''}${stderr ?? ''}`.slice(-4000);
  throw new Error(`${program} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}\n${said}`);
}
