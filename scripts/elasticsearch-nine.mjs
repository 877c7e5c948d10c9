/**
 * Elasticsearch 9 is not published as a distribution for tests, as 7 and 8 are: it is put together here of its
 * published jars. What is around them, and is not published, is that of an 8: the programs that start it, logging, the
 * agent that guards its entitlements. Bulk, search, templates and aliases are in it; TLS and users are not.
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './maven.mjs';

const TRANSPORT = join('modules', 'transport-netty4');
/** Whose jars are not of the server itself. */
const OF_TRANSPORT = /^(netty-|transport-netty4|elasticsearch-ssl-config)/;
const BRIDGE = 'elasticsearch-entitlement-bridge';
/** The server has its own logging. */
const LEFT_OUT = /^log4j-core/;

/** @param base The folder of an 8. @throws Error with what Maven said. */
export function assembleElasticsearch(version, base, directory) {
  const work = mkdtempSync(`${directory}-`);
  try {
    const home = join(work, 'home');
    cpSync(base, home, { recursive: true });
    takeOut(home);
    for (const [jar, path] of fetchJars(version, work)) cpSync(path, join(home, placeOf(jar), jar));
    changeVersion(join(home, TRANSPORT, 'plugin-descriptor.properties'), version);
    rmSync(directory, { recursive: true, force: true });
    renameSync(home, directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Of the 8, what has its like among the jars, modules of the distribution, and settings of users. */
function takeOut(home) {
  const ours = /^(lucene|log4j-api|elasticsearch-(?!log4j))/;
  for (const name of readdirSync(join(home, 'lib'))) if (ours.test(name)) rmSync(join(home, 'lib', name));
  for (const name of readdirSync(join(home, 'modules'))) {
    if (!TRANSPORT.endsWith(name)) rmSync(join(home, 'modules', name), { recursive: true });
  }
  for (const folder of [TRANSPORT, 'lib/entitlement-bridge']) {
    for (const name of readdirSync(join(home, folder))) if (name.endsWith('.jar')) rmSync(join(home, folder, name));
  }
  for (const name of ['users', 'users_roles', 'roles.yml', 'role_mapping.yml']) {
    rmSync(join(home, 'config', name), { force: true });
  }
}

function placeOf(jar) {
  if (OF_TRANSPORT.test(jar)) return TRANSPORT;
  return jar.startsWith(BRIDGE) ? 'lib/entitlement-bridge' : 'lib';
}

/** @returns name and path of each. */
function fetchJars(version, work) {
  const artefacts = [
    ['org.elasticsearch', 'elasticsearch'],
    ['org.elasticsearch', BRIDGE],
    ['org.elasticsearch.plugin', 'transport-netty4'],
  ];
  const dependencies = artefacts.map(
    ([group, name]) =>
      `<dependency><groupId>${group}</groupId><artifactId>${name}</artifactId><version>${version}</version></dependency>`,
  );
  const pom = join(work, 'pom.xml');
  const project = '<modelVersion>4.0.0</modelVersion><groupId>test</groupId><artifactId>test</artifactId>';
  writeFileSync(
    pom,
    `<project>${project}<version>1</version><dependencies>${dependencies.join('')}</dependencies></project>`,
  );
  const output = join(work, 'jars');
  mkdirSync(output);
  run('mvn', ['-q', '-B', '-f', pom, 'dependency:copy-dependencies', `-DoutputDirectory=${output}`]);
  return readdirSync(output)
    .filter((name) => !LEFT_OUT.test(name))
    .map((name) => [name, join(output, name)]);
}

function changeVersion(descriptor, version) {
  const text = readFileSync(descriptor, 'utf8');
  writeFileSync(descriptor, text.replaceAll(/^((?:elasticsearch\.)?version)=.*$/gm, `$1=${version}`));
}
