/**
 * Elasticsearch 9 is not published as a distribution for tests, as 7 and 8 are. The server, its transport and its
 * security are put together here of their published jars; what is around them is that of an 8: the programs that start
 * it, logging, the agent that guards entitlements, libraries of security.
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './maven.mjs';

const BRIDGE = 'elasticsearch-entitlement-bridge';
const PLUGINS = 'org.elasticsearch.plugin';
/** With all that they need. */
const WITH_LIBRARIES = [
  ['org.elasticsearch', 'elasticsearch'],
  ['org.elasticsearch', BRIDGE],
  [PLUGINS, 'transport-netty4'],
];
/** Alone: not all that they need is published. */
const ALONE = [
  [PLUGINS, 'x-pack-core'],
  [PLUGINS, 'x-pack-security'],
];
/** Where a jar of 9 goes, in place of what has its name but for the version; by default where that of 8 is. */
const PLACES = [
  [/^log4j-core/, []],
  [/^elasticsearch-ssl-config/, ['modules/transport-netty4', 'modules/x-pack-core']],
  [/^(netty-|transport-netty4)/, ['modules/transport-netty4', 'modules/x-pack-security']],
  [/^x-pack-core/, ['modules/x-pack-core']],
  [/^x-pack-security/, ['modules/x-pack-security']],
  [/^elasticsearch-entitlement-bridge/, ['lib/entitlement-bridge']],
  [/./, ['lib']],
];
/** What the programs of 9 that start it would open for it. */
const OPENED = [
  'org.apache.lucene.core/org.apache.lucene.codecs.lucene99',
  ...['90', '91', '92', '94', '95'].map(
    (each) => `org.apache.lucene.backward_codecs/org.apache.lucene.backward_codecs.lucene${each}`,
  ),
];

/** @param base The folder of an 8. @throws Error with what Maven said. */
export function assembleElasticsearch(version, base, directory) {
  const work = mkdtempSync(`${directory}-`);
  try {
    const home = join(work, 'home');
    cpSync(base, home, { recursive: true });
    for (const [name, path] of fetchJars(version, work)) {
      const [, places] = PLACES.find(([pattern]) => pattern.test(name));
      for (const place of places) replaceJar(join(home, place), name, path);
    }
    standInForApm(join(home, 'modules/apm'));
    for (const module of readdirSync(join(home, 'modules'))) changeVersion(join(home, 'modules', module), version);
    const options = OPENED.map((each) => `--add-opens=${each}=org.elasticsearch.server\n`);
    writeFileSync(join(home, 'config/jvm.options.d/opened.options'), options.join(''));
    rmSync(directory, { recursive: true, force: true });
    renameSync(home, directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** @returns name and path of each. */
function fetchJars(version, work) {
  const output = join(work, 'jars');
  mkdirSync(output);
  for (const [artefacts, ...more] of [[WITH_LIBRARIES], [ALONE, '-DexcludeTransitive=true']]) {
    const pom = join(work, 'pom.xml');
    writeFileSync(pom, projectOf(artefacts, version, more.length > 0));
    run('mvn', ['-q', '-B', '-f', pom, 'dependency:copy-dependencies', `-DoutputDirectory=${output}`, ...more]);
  }
  return readdirSync(output).map((name) => [name, join(output, name)]);
}

function projectOf(artefacts, version, areAlone) {
  const nothingElse = '<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>';
  const dependencies = artefacts.map(
    ([group, name]) =>
      `<dependency><groupId>${group}</groupId><artifactId>${name}</artifactId><version>${version}</version>${areAlone ? nothingElse : ''}</dependency>`,
  );
  const own = '<groupId>test</groupId><artifactId>test</artifactId><version>1</version>';
  return `<project><modelVersion>4.0.0</modelVersion>${own}<dependencies>${dependencies.join('')}</dependencies></project>`;
}

function replaceJar(folder, name, path) {
  const stem = (jar) => jar.replace(/-\d[\w.]*\.jar$/, '');
  for (const other of readdirSync(folder)) {
    if (other.endsWith('.jar') && stem(other) === stem(name)) rmSync(join(folder, other));
  }
  cpSync(path, join(folder, name));
}

/** The server asks for a module of that name, and can't run that of 8. */
function standInForApm(folder) {
  for (const name of readdirSync(folder)) if (!name.startsWith('elastic-apm-agent')) rmSync(join(folder, name));
  const lines = ['name=apm', 'description=reports nothing', 'java.version=17', 'version=', 'elasticsearch.version='];
  writeFileSync(join(folder, 'stable-plugin-descriptor.properties'), `${lines.join('\n')}\n`);
  writeFileSync(join(folder, 'named_components.json'), '{}\n');
}

function changeVersion(folder, version) {
  for (const name of readdirSync(folder).filter((each) => each.endsWith('plugin-descriptor.properties'))) {
    const text = readFileSync(join(folder, name), 'utf8');
    const changed = text.replaceAll(/^((?:elasticsearch\.)?version)=.*$/gm, `$1=${version}`);
    writeFileSync(join(folder, name), changed);
  }
}
