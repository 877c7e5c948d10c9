#!/usr/bin/env node
/**
 * Fetches a real Elasticsearch for tests into a cache outside the work tree, and prints the folder:
 *   node scripts/elasticsearch.mjs [VERSION]
 * It is the distribution that Elasticsearch's own plugins are tested with: bulk, search, templates, aliases, TLS and
 * users are in it; life-cycle management, data streams and `GET /` are not. Version 9 is put together of its jars
 * (elasticsearch-nine.mjs). $ELASTICSEARCH_VERSION names another version for the tests. Plain JavaScript with Node's
 * own modules: setup.mjs calls it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { assembleElasticsearch } from './elasticsearch-nine.mjs';
import { cached, fetchZip, missingFetchers } from './maven.mjs';

const EIGHT = '8.19.4';
const VERSION = process.env['ELASTICSEARCH_VERSION'] || EIGHT;

/** The folder that holds `bin/` and `lib/`, once fetched. */
export function elasticsearchDirectory(version = VERSION) {
  return cached(`elasticsearch-${version}`);
}

export function elasticsearchMajor(version = VERSION) {
  return Number.parseInt(version, 10);
}

export function isElasticsearchThere(version = VERSION) {
  return existsSync(join(elasticsearchDirectory(version), 'bin', 'elasticsearch'));
}

/** The home of a Java that it runs on. */
export function elasticsearchJava(version = VERSION) {
  return javaHome(javaFor(version));
}

/** Why the server is not there or can't run here; undefined when it can be fetched and run. */
export function whyNoElasticsearchProgram(version = VERSION) {
  if (elasticsearchJava(version) === undefined) {
    return `Elasticsearch ${version} needs ${nameOf(javaFor(version))}, which was not found`;
  }
  if (isElasticsearchThere(version)) return undefined;
  const missing = missingFetchers();
  return missing.length === 0 ? undefined : `${missing.join(' and ')} is not installed, which fetches Elasticsearch`;
}

function javaFor(version) {
  const major = elasticsearchMajor(version);
  // It needs a security manager, which Java 24 has no more.
  if (major <= 7) return { least: 17, most: 23 };
  return { least: major >= 9 ? 21 : 17, most: Infinity };
}

/** Of such versions, for messages. */
export function nameOf({ least, most }) {
  return `Java ${least} ${most === Infinity ? 'or newer' : `to ${most}`}`;
}

/** The home of a Java of such a version. */
export function javaHome({ least, most } = { least: 17, most: Infinity }) {
  const machine = '/usr/lib/jvm';
  const further = existsSync(machine) ? readdirSync(machine).map((name) => join(machine, name)) : [];
  const homes = [process.env['ES_JAVA_HOME'], process.env['JAVA_HOME'], homeOnPath(), ...further];
  return homes.find((home) => {
    const major = home ? javaMajor(join(home, 'bin', 'java')) : 0;
    return major >= least && major <= most;
  });
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
export function fetchElasticsearch(version = VERSION) {
  if (isElasticsearchThere(version)) return;
  if (elasticsearchMajor(version) >= 9) {
    fetchElasticsearch(EIGHT);
    assembleElasticsearch(version, elasticsearchDirectory(EIGHT), elasticsearchDirectory(version));
    return;
  }
  const archive = { group: 'org.elasticsearch.distribution.integ-test-zip', name: 'elasticsearch', version };
  fetchZip(archive, elasticsearchDirectory(version));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [version = VERSION] = process.argv.slice(2);
  try {
    const why = whyNoElasticsearchProgram(version);
    if (why !== undefined) throw new Error(why);
    fetchElasticsearch(version);
    process.stdout.write(`${elasticsearchDirectory(version)}\n`);
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
