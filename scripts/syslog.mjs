#!/usr/bin/env node
/**
 * Fetches collectors of syslog for tests from Debian's packages into a cache outside the work tree, and prints the folders:
 *   node scripts/syslog.mjs
 * They are unpacked and not installed: a system has one collector, and keeps the one that it has. The tests that need
 * them say so, and are skipped, where they are not there. Plain JavaScript with Node's own modules.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cached } from './maven.mjs';

const COLLECTORS = {
  rsyslog: { package: 'rsyslog', program: 'rsyslogd' },
  'syslog-ng': { package: 'syslog-ng-core', program: 'syslog-ng' },
};

/**
 * One that is installed or was fetched. @param {string} name of rsyslog, syslog-ng
 * @returns {{ program: string, modules: string | undefined, env: Record<string, string> } | undefined}
 */
export function syslogCollector(name) {
  const { program } = COLLECTORS[name];
  const [installed, fetched] = ['/', directoryOf(name)].map((root) => join(root, 'usr/sbin', program));
  if (existsSync(installed)) return { program: installed, modules: undefined, env: {} };
  if (!existsSync(fetched)) return undefined;
  const libraries = librariesOf(directoryOf(name));
  return {
    program: fetched,
    modules: libraries.find((folder) => /\/(rsyslog|syslog-ng\/[\d.]+)$/.test(folder)),
    env: { LD_LIBRARY_PATH: libraries.join(':') },
  };
}

export function whyNoSyslogCollector(name) {
  if (syslogCollector(name) !== undefined) return undefined;
  return `${COLLECTORS[name].program} is not here: run node scripts/syslog.mjs`;
}

function directoryOf(name) {
  return cached(name);
}

/** Folders with shared objects. */
function librariesOf(root) {
  return ['lib', 'usr/lib'].flatMap((lib) => foldersOf(join(root, lib), 2));
}

function foldersOf(folder, depth) {
  if (!existsSync(folder)) return [];
  const entries = readdirSync(folder, { withFileTypes: true });
  const further = entries.filter((entry) => depth > 0 && entry.isDirectory());
  const isOne = entries.some((entry) => /\.so(\.\d+)*$/.test(entry.name));
  return [...(isOne ? [folder] : []), ...further.flatMap((entry) => foldersOf(join(folder, entry.name), depth - 1))];
}

/** Unless they are there. @throws Error with what apt said. */
export function fetchSyslogCollectors() {
  for (const name of Object.keys(COLLECTORS)) if (syslogCollector(name) === undefined) fetchPackage(name);
}

function fetchPackage(name) {
  const directory = directoryOf(name);
  mkdirSync(join(directory, '..'), { recursive: true });
  const work = mkdtempSync(`${directory}-`);
  try {
    const plan = run('apt-get', ['-s', '--no-install-recommends', 'install', COLLECTORS[name].package]);
    const names = [...plan.matchAll(/^Inst (\S+)/gm)].map(([, each]) => each);
    run('apt-get', ['-q', '-o', 'APT::Sandbox::User=root', 'download', ...names], work);
    const root = join(work, 'root');
    for (const file of readdirSync(work)) run('dpkg', ['-x', join(work, file), root]);
    rmSync(directory, { recursive: true, force: true });
    renameSync(root, directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function run(program, args, cwd) {
  const { status, error, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', cwd });
  if (status === 0) return stdout;
  throw new Error(`${program} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}\n${stderr ?? ''}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    fetchSyslogCollectors();
    process.stdout.write(`${Object.keys(COLLECTORS).map(directoryOf).join('\n')}\n`);
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
