#!/usr/bin/env node
/**
 * Fetches a real OpenSearch for tests into a cache outside the work tree, and prints the folder:
 *   node scripts/opensearch.mjs [VERSION]
 * It is the distribution that OpenSearch's own plugins are tested with: data streams are in it; security and index
 * management are plugins. Plain JavaScript with Node's own modules. The test that needs it says so, and is skipped,
 * where it was not fetched. $OPENSEARCH_VERSION names another version for the tests.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { javaHome, nameOf } from './elasticsearch.mjs';
import { cached, fetchZip, missingFetchers } from './maven.mjs';

const VERSION = process.env['OPENSEARCH_VERSION'] || '2.19.1';
/** Before 3 it needs a security manager, which Java 24 has no more. */
const JAVA = Number.parseInt(VERSION, 10) >= 3 ? { least: 21, most: Infinity } : { least: 17, most: 23 };

/** The folder that holds `bin/` and `lib/`, once fetched. */
export function opensearchDirectory(version = VERSION) {
  return cached(`opensearch-${version}`);
}

/** The home of a Java that it runs on. */
export function opensearchJava() {
  return javaHome(JAVA);
}

/** Why it can't run here; undefined when it can. @returns {string | undefined} */
export function whyNoOpensearch() {
  if (opensearchJava() === undefined) {
    return `OpenSearch ${VERSION} needs ${nameOf(JAVA)}, which was not found`;
  }
  if (!existsSync(join(opensearchDirectory(), 'lib')))
    return 'OpenSearch was not fetched: run node scripts/opensearch.mjs';
  return undefined;
}

/** Unless it is there. @throws Error with what Maven said. */
function fetchOpensearch(version) {
  if (existsSync(join(opensearchDirectory(version), 'lib'))) return;
  const missing = missingFetchers();
  if (missing.length > 0) throw new Error(`${missing.join(' and ')} is not installed, which fetches OpenSearch`);
  const archive = { group: 'org.opensearch.distribution.integ-test-zip', name: 'opensearch', version };
  fetchZip(archive, opensearchDirectory(version));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [version = VERSION] = process.argv.slice(2);
  try {
    fetchOpensearch(version);
    process.stdout.write(`${opensearchDirectory(version)}\n`);
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
