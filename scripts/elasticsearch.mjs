#!/usr/bin/env node
/**
 * Fetches a real Elasticsearch for tests into a cache outside the work tree, and prints the folder:
 *   node scripts/elasticsearch.mjs
 * It is the distribution that Elasticsearch's own plugins are tested with: bulk, search, templates, aliases, TLS and
 * users are in it; life-cycle management, data streams and `GET /` are not. Plain JavaScript with Node's own modules:
 * setup.mjs calls it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cached, fetchZip, missingFetchers } from './maven.mjs';

const VERSION = '8.19.4';
const ARCHIVE = { group: 'org.elasticsearch.distribution.integ-test-zip', name: 'elasticsearch', version: VERSION };

/** The folder that holds `bin/` and `lib/`, once fetched. */
export function elasticsearchDirectory() {
  return cached(`elasticsearch-${VERSION}`);
}

export function isElasticsearchThere() {
  return existsSync(join(elasticsearchDirectory(), 'bin', 'elasticsearch'));
}

/** Why the server is not there or can't run here; undefined when it can be fetched and run. */
export function whyNoElasticsearchProgram() {
  if (javaHome() === undefined) return 'Elasticsearch needs Java 17 or newer, which was not found';
  if (isElasticsearchThere()) return undefined;
  const missing = missingFetchers();
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
  if (!isElasticsearchThere()) fetchZip(ARCHIVE, elasticsearchDirectory());
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
