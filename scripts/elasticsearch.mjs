#!/usr/bin/env node
/**
 * Fetches a real Elasticsearch for tests into a cache outside the work tree, and prints the folder:
 *   node scripts/elasticsearch.mjs
 * It is the distribution that Elasticsearch's own plugins are tested with: bulk, search, templates, aliases, TLS and
 * users are in it; life-cycle management, data streams and `GET /` are not. Plain JavaScript with Node's own modules:
 * setup.mjs calls it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const VERSION = '8.19.4';
const ARTIFACT = `org.elasticsearch.distribution.integ-test-zip:elasticsearch:${VERSION}:zip`;

/** The folder that holds `bin/` and `lib/`, once fetched. */
export function elasticsearchDirectory() {
  const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return join(cache, 'dpi-agent', `elasticsearch-${VERSION}`);
}

export function isElasticsearchThere() {
  return existsSync(join(elasticsearchDirectory(), 'bin', 'elasticsearch'));
}

/** Why the server is not there or can't run here; undefined when it can be fetched and run. */
export function whyNoElasticsearchProgram() {
  if (javaHome() === undefined) return 'Elasticsearch needs Java 17 or newer, which was not found';
  if (isElasticsearchThere()) return undefined;
  const missing = ['mvn', 'unzip'].filter((name) => spawnSync(name, ['-v'], { stdio: 'ignore' }).error !== undefined);
  return missing.length === 0 ? undefined : `${missing.join(' and ')} is not installed, which fetches Elasticsearch`;
}

/** The home of a Java of version 17 or newer. */
export function javaHome() {
  const machine = '/usr/lib/jvm';
  const further = existsSync(machine) ? readdirSync(machine).map((name) => join(machine, name)) : [];
  const homes = [process.env['ES_JAVA_HOME'], process.env['JAVA_HOME'], homeOnPath(), ...further];
  return homes.find((home) => home && javaMajor(join(home, 'bin', 'java')) >= 17);
}

function homeOnPath() {
  const { stderr } = spawnSync('java', ['-XshowSettings:properties', '-version'], { encoding: 'utf8' });
  return /^\s*java\.home = (.+)$/m.exec(stderr ?? '')?.[1];
}

function javaMajor(java) {
  const { stderr, error } = spawnSync(java, ['-version'], { encoding: 'utf8' });
  return error === undefined ? Number(/version "(\d+)/.exec(stderr)?.[1] ?? 0) : 0;
}

/** Fetches the server unless it is there. @throws Error with what Maven said. */
export function fetchElasticsearch() {
  const directory = elasticsearchDirectory();
  if (isElasticsearchThere()) return;
  mkdirSync(join(directory, '..'), { recursive: true });
  const work = mkdtempSync(`${directory}-`);
  try {
    run('mvn', ['-q', '-B', 'dependency:get', `-Dartifact=${ARTIFACT}`, '-Dtransitive=false']);
    run('unzip', ['-q', archive(), '-d', work]);
    rmSync(directory, { recursive: true, force: true });
    renameSync(join(work, `elasticsearch-${VERSION}`), directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Where Maven put it. */
function archive() {
  const usual = join(homedir(), '.m2', 'repository');
  const path = join(...'org/elasticsearch/distribution/integ-test-zip/elasticsearch'.split('/'), VERSION);
  const name = `elasticsearch-${VERSION}.zip`;
  if (existsSync(join(usual, path, name))) return join(usual, path, name);
  // A machine may keep its repository elsewhere.
  const local = run('mvn', ['-q', '-B', 'help:evaluate', '-Dexpression=settings.localRepository', '-DforceStdout']);
  return join(local.trim(), path, name);
}

function run(program, args) {
  const { status, error, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 64 << 20 });
  if (status === 0) return stdout;
  const said = `${stdout ?? ''}${stderr ?? ''}`.slice(-4000);
  throw new Error(`${program} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}\n${said}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const why = whyNoElasticsearchProgram();
    if (why !== undefined) throw new Error(why);
    fetchElasticsearch();
    process.stdout.write(`${elasticsearchDirectory()}\n`);
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
