#!/usr/bin/env node
/**
 * Fetches a real Kafka for tests into a cache outside the work tree, and prints the folder:
 *   node scripts/kafka.mjs
 * Plain JavaScript with Node's own modules. The test that needs it says so, and is skipped, where it was not fetched.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { javaHome } from './elasticsearch.mjs';

const VERSION = '3.9.1';

/** The folder that holds `lib/`, once fetched. */
export function kafkaDirectory() {
  const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return join(cache, 'dpi-agent', `kafka-${VERSION}`);
}

/** Why it can't run here; undefined when it can. */
export function whyNoKafka() {
  if (javaHome() === undefined) return 'Kafka needs Java 17 or newer, which was not found';
  if (!existsSync(join(kafkaDirectory(), 'lib'))) return 'Kafka was not fetched: run node scripts/kafka.mjs';
  return undefined;
}

/** @throws Error with what Maven said. */
function fetchKafka() {
  const directory = kafkaDirectory();
  mkdirSync(join(directory, '..'), { recursive: true });
  const work = mkdtempSync(`${directory}-`);
  try {
    writeFileSync(
      join(work, 'pom.xml'),
      `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
        <groupId>test</groupId><artifactId>kafka</artifactId><version>1</version>
        <dependencies><dependency>
          <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>${VERSION}</version>
        </dependency></dependencies>
      </project>`,
    );
    const args = ['-q', '-B', '-f', join(work, 'pom.xml'), 'dependency:copy-dependencies', '-DoutputDirectory=lib'];
    const { status, error, stdout, stderr } = spawnSync('mvn', args, { cwd: work, encoding: 'utf8' });
    if (status !== 0)
      throw new Error(`mvn failed${error ? `: ${error.message}` : ''}\n${`${stdout}${stderr}`.slice(-4000)}`);
    rmSync(directory, { recursive: true, force: true });
    renameSync(work, directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (!existsSync(join(kafkaDirectory(), 'lib'))) fetchKafka();
  process.stdout.write(`${kafkaDirectory()}\n`);
}
