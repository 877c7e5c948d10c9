#!/usr/bin/env node
/**
 * Makes a fresh machine ready: system packages, npm packages, build. Does only what is missing, so it takes a moment
 * the second time.
 *   node scripts/setup.mjs [build|demo|test|cluster]
 *   node scripts/setup.mjs bench [PART…]    of lab, engine, suricata, control-plane, elasticsearch, chromium
 * Plain JavaScript with Node's own modules: it runs before anything is installed.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { elasticsearchJava, isElasticsearchThere, whyNoElasticsearchProgram } from './elasticsearch.mjs';
import { CLUSTER, CONTROL_PLANE, HELM, missingPrograms, whyNoKubernetes } from './kubernetes.mjs';
import { CALLS, whyNotLoaded } from '../native/load.mjs';
import { whyNoSyslogCollector } from './syslog.mjs';
import { ADDON, buildAddon, buildNodePcap, BUILT_WITH, NODE_PCAP, npmEnvironment } from './native.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** What is needed beside a build. A cluster's engine is in its image. */
const PROFILES = {
  build: [],
  demo: ['rights', 'lab', 'curl', 'engine'],
  test: [
    'rights',
    'lab',
    'curl',
    'chromium',
    'elasticsearch',
    'faketime',
    'prometheus',
    'suricata',
    'packets',
    'syslog',
    'control-plane',
    'helm',
  ],
  cluster: ['rights', 'lab', 'curl', 'cluster', 'chromium', 'elasticsearch'],
  bench: ['rights'],
};
/** What packages start, by their names. */
const SERVICES = { suricata: 'suricata', containerd: 'containerd', prometheus: 'prometheus', 'openssh-server': 'ssh' };
const [profile = 'build', ...named] = process.argv.slice(2);
if (!Object.hasOwn(PROFILES, profile)) fail(`unknown profile ${profile}: use ${Object.keys(PROFILES).join(', ')}`);
const parts = [...PROFILES[profile], ...named];

checkNode();
// What computes for minutes runs beside what waits for registries.
const kubernetes = startKubernetes();
installSystemPackages();
const elasticsearch = startElasticsearch();
const syslog = startSyslog();
installNpmPackages();
buildNative();
build();
if (!(await elasticsearch)) say('Elasticsearch is not fetched, its tests will be skipped');
if (!(await syslog)) say('rsyslog and syslog-ng are not fetched, their tests will be skipped');
if (!(await kubernetes)) fail('the programs of Kubernetes could not be built');

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19))
    fail(`Node ${process.version} is too old: install Node 20.19 or newer`);
  if (process.platform !== 'linux') fail('dpi-agent captures on Linux interfaces: run it on Linux');
}

function installSystemPackages() {
  const command = (name) => () => onPath(name) !== undefined;
  const header = () => existsSync('/usr/include/pcap/pcap.h') || existsSync('/usr/local/include/pcap/pcap.h');
  const needed = [
    ['libpcap-dev', header, 'builds and runs the native parts'],
    ['g++', () => onPath('cc') !== undefined && onPath('g++') !== undefined, 'builds the native parts'],
    ['make', command('make'), 'builds node-pcap'],
    ['python3', command('python3'), 'runs node-gyp, which builds node-pcap'],
  ];
  const packagesOf = {
    rights: [['util-linux', command('setpriv'), 'takes rights from the engine']],
    lab: [['iproute2', command('ip'), 'makes network namespaces']],
    curl: [['curl', command('curl'), "sends the demo's request"]],
    cluster: clusterPackages(command),
    syslog: [],
    'control-plane': [],
    helm: [],
    chromium: [['chromium', command('chromium'), 'opens the Alerts page in its tests']],
    elasticsearch: process.env['ELASTICSEARCH_URL'] ? [] : elasticsearchPackages(command),
    faketime: [['libfaketime', hasFaketime, "sets a process's clock"]],
    prometheus: [['prometheus', command('promtool'), 'scrapes and checks the metrics']],
    engine: [['suricata', () => isSnort3() || command('suricata')(), 'is the engine where Snort 3 is not installed']],
    suricata: [['suricata', command('suricata'), 'is an engine']],
    packets: [
      ['tshark', command('tshark'), 'reads the packets that the agent reads'],
      ['tcpdump', command('tcpdump'), "captures beside the agent's tests"],
      ['bind9-dnsutils', command('dig'), 'asks for names in tests'],
      ['openssl', command('openssl'), 'speaks TLS in tests'],
      ['openssh-client', command('ssh'), 'speaks SSH in tests'],
      ['openssh-server', () => existsSync('/usr/sbin/sshd'), 'speaks SSH in tests'],
    ],
  };
  const unknown = parts.filter((part) => !Object.hasOwn(packagesOf, part));
  if (unknown.length > 0) fail(`unknown part ${unknown.join(', ')}: use ${Object.keys(packagesOf).join(', ')}`);
  needed.push(...parts.flatMap((part) => packagesOf[part]));
  const missing = needed.filter(([, present]) => !present());
  if (missing.length === 0) return;
  // Its tests say themselves what is missing.
  if (profile === 'cluster' && (onPath('apt-get') === undefined || process.getuid?.() !== 0)) return;
  const names = missing.map(([name]) => name);
  const reasons = missing.map(([name, , why]) => `  ${String(name).padEnd(12)} ${String(why)}`).join('\n');
  if (onPath('apt-get') === undefined)
    fail(`these packages are missing, and there is no apt-get to install them:\n${reasons}`);
  if (process.getuid?.() !== 0) {
    fail(`these packages are missing:\n${reasons}\nInstall them:  sudo apt-get install ${names.join(' ')}`);
  }
  say(`installing ${names.join(', ')}`);
  const apt = (args) => run('apt-get', ['-qq', '-y', ...args], { DEBIAN_FRONTEND: 'noninteractive' });
  apt(['update']);
  const suite = names.includes('suricata') ? backportsForSuricata(apt) : undefined;
  apt(['install', '--no-install-recommends', ...(suite === undefined ? [] : ['-t', suite]), ...names]);
  for (const [name, service] of Object.entries(SERVICES)) {
    // Only the programs are wanted, not the services that the packages start.
    if (names.includes(name) && existsSync('/run/systemd/system'))
      spawnSync('systemctl', ['disable', '--now', service], { stdio: 'ignore' });
  }
}

/** What a node runs, and what builds its images. */
function clusterPackages(command) {
  const cni = () =>
    ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'].some((folder) => existsSync(join(folder, 'ptp')));
  return [
    ['containerd', command('containerd'), 'runs the pods'],
    ['runc', command('runc'), 'runs their containers'],
    ['containernetworking-plugins', cni, "makes the pods' network"],
    ['iptables', command('iptables'), 'is what kube-proxy sets'],
    ['procps', command('pgrep'), 'finds processes on the node'],
    ['buildah', command('buildah'), 'builds the image'],
    ['mmdebstrap', command('mmdebstrap'), 'makes the image that it is built on'],
  ];
}

function hasFaketime() {
  const libraries = readdirSync('/usr/lib').filter((name) => name.endsWith('-linux-gnu'));
  return libraries.some((name) => existsSync(join('/usr/lib', name, 'faketime', 'libfaketime.so.1')));
}

/** What a real Elasticsearch is fetched with, and what runs it. */
function elasticsearchPackages(command) {
  const fetched = (present) => () => isElasticsearchThere() || present();
  return [
    ['default-jre-headless', () => elasticsearchJava() !== undefined, 'runs Elasticsearch'],
    ['maven', fetched(command('mvn')), 'fetches Elasticsearch'],
    ['unzip', fetched(command('unzip')), 'unpacks Elasticsearch'],
  ];
}

/** Debian 12 has Suricata in its backports: adds that suite with the URI and key of the main one. Returns its name. */
function backportsForSuricata(apt) {
  const policy = spawnSync('apt-cache', ['policy', 'suricata'], { encoding: 'utf8' }).stdout ?? '';
  if (/Candidate: (?!\(none\))/.test(policy)) return undefined;
  const codename = /^VERSION_CODENAME=(\S+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? '';
  const suite = `${codename}-backports`;
  const main = readSources().find((source) => source.suites.includes(codename));
  if (main === undefined)
    fail(
      `this system's packages have no suricata, and no source of ${codename} was found to add ${suite} by: install Suricata 7`,
    );
  const stanza = [`Types: deb`, `URIs: ${main.uri}`, `Suites: ${suite}`, `Components: main`];
  if (main.signedBy !== undefined) stanza.push(`Signed-By: ${main.signedBy}`);
  writeFileSync(`/etc/apt/sources.list.d/${suite}-dpi-agent.sources`, `${stanza.join('\n')}\n`);
  apt(['update']);
  return suite;
}

/** The package sources of both formats: {uri, suites, signedBy}. */
function readSources() {
  const directory = '/etc/apt/sources.list.d';
  const files = existsSync(directory) ? readdirSync(directory).map((name) => join(directory, name)) : [];
  const sources = [];
  for (const file of files.filter((name) => name.endsWith('.sources'))) {
    for (const stanza of readFileSync(file, 'utf8').split(/\n\s*\n/)) {
      const field = (name) => new RegExp(`^${name}:\\s*(.+)$`, 'm').exec(stanza)?.[1]?.trim();
      const uri = field('URIs')?.split(/\s+/)[0];
      if (uri !== undefined)
        sources.push({ uri, suites: field('Suites')?.split(/\s+/) ?? [], signedBy: field('Signed-By') });
    }
  }
  for (const file of ['/etc/apt/sources.list', ...files.filter((name) => name.endsWith('.list'))].filter(existsSync)) {
    for (const match of readFileSync(file, 'utf8').matchAll(/^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)/gm)) {
      const signedBy = /signed-by=(\S+)/.exec(match[1] ?? '')?.[1];
      sources.push({ uri: match[2], suites: [match[3]], signedBy });
    }
  }
  return sources;
}

function installNpmPackages() {
  const stamp = join(root, 'node_modules', '.dpi-agent-setup');
  const wanted = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  say('installing npm packages');
  run('npm', ['ci', '--no-progress', '--loglevel=error'], npmEnvironment());
  writeFileSync(stamp, wanted);
}

/** Whether they are good for this Node and this machine, only loading them tells. */
function buildNative() {
  const sources = ['native', 'package-lock.json'];
  const buildOwn = () => {
    say('building the native capture');
    attempt(buildAddon);
  };
  once(join(root, 'dist', '.built-native'), sources, buildOwn, BUILT_WITH);
  const whyNotOwn = () => whyNotLoaded(ADDON, { calls: CALLS });
  if (whyNotOwn() !== undefined) buildOwn();
  if (whyNotLoaded(NODE_PCAP) !== undefined) {
    say(`building node-pcap for Node ${process.versions.node}`);
    attempt(buildNodePcap);
  }
  for (const [path, why] of [
    [ADDON, whyNotOwn()],
    [NODE_PCAP, whyNotLoaded(NODE_PCAP)],
  ]) {
    if (why !== undefined) fail(`${path} was built and cannot be loaded: ${why}`);
  }
}

function build() {
  const vite = (...args) =>
    run(process.execPath, [join(root, 'node_modules/vite/bin/vite.js'), 'build', ...args, '--logLevel', 'warn']);
  const stamp = join(root, 'dist', '.built');
  const sources = [
    'agent',
    'native/load.mjs',
    'scripts',
    'bench',
    'test/support',
    'bundle.config.mjs',
    'tsconfig.json',
    'tsconfig.build.json',
    'package-lock.json',
  ];
  once(stamp, sources, () => {
    say('building');
    run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'tsconfig.build.json')]);
    vite('--config', 'bundle.config.mjs');
  });
  once(
    join(root, 'dist', '.built-web'),
    ['web', 'agent/events', 'agent/tuning/entry.ts', 'agent/ui/api.ts', 'agent/ui/language', 'package-lock.json'],
    () => {
      say('building the Alerts page');
      vite('web', '--config', 'web/vite.config.mjs');
    },
  );
}

/** Makes something of files, unless it has been made of the same ones, in the same way. */
function once(stamp, sources, make, way = '') {
  const wanted = createHash('sha256')
    .update([way, ...sources.flatMap((path) => fingerprint(join(root, path)))].join('\n'))
    .digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  make();
  mkdirSync(join(root, 'dist'), { recursive: true });
  writeFileSync(stamp, wanted);
}

/** Tests say themselves what is missing where these can't be built. */
function startKubernetes() {
  const wanted = { 'control-plane': CONTROL_PLANE, cluster: CLUSTER, helm: HELM };
  const missing = missingPrograms([...new Set(parts.flatMap((part) => wanted[part] ?? []))]);
  if (missing.length === 0 || whyNoKubernetes(missing) !== undefined) return true;
  say(`building ${missing.join(', ')}: some minutes, once`);
  return start('kubernetes.mjs', ...missing);
}

/** Its tests say themselves that it is missing, and are skipped. */
function startElasticsearch() {
  if (!parts.includes('elasticsearch') || process.env['ELASTICSEARCH_URL']) return true;
  if (isElasticsearchThere() || whyNoElasticsearchProgram() !== undefined) return true;
  say('fetching Elasticsearch, once');
  return start('elasticsearch.mjs');
}

/** Likewise; from the packages' lists that the system has. */
function startSyslog() {
  const isThere = ['rsyslog', 'syslog-ng'].every((name) => whyNoSyslogCollector(name) === undefined);
  if (!parts.includes('syslog') || isThere || onPath('apt-get') === undefined) return true;
  say('fetching rsyslog and syslog-ng, once');
  return start('syslog.mjs');
}

/** Runs a script of this folder meanwhile. @returns whether it succeeded; else it has said why not. */
function start(script, ...args) {
  const child = spawn(process.execPath, [join(import.meta.dirname, script), ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  process.once('exit', () => child.kill());
  return new Promise((resolve) => child.once('close', (code) => resolve(code === 0)));
}

function fingerprint(path) {
  if (!existsSync(path)) return [];
  const stat = statSync(path);
  if (!stat.isDirectory()) return [`${path} ${stat.size} ${stat.mtimeMs}`];
  return readdirSync(path)
    .sort()
    .flatMap((name) => fingerprint(join(path, name)));
}

function isSnort3() {
  const binary = onPath('snort');
  if (binary === undefined) return false;
  const { stdout, stderr } = spawnSync(binary, ['-V'], { encoding: 'utf8' });
  return /Version 3\./.test(`${stdout}${stderr}`);
}

function onPath(name) {
  const further =
    name === 'snort' ? ['/usr/local/bin', '/usr/local/snort/bin', '/opt/snort/bin'] : ['/usr/sbin', '/sbin'];
  return [...(process.env['PATH'] ?? '').split(delimiter), ...further]
    .map((directory) => join(directory, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** Runs a command quietly; what it printed is shown when it fails. */
function run(program, args, env = {}) {
  const { status, error, stdout, stderr } = spawnSync(program, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    env: { ...process.env, ...env },
  });
  if (status === 0) return;
  fail(
    `${program} ${args.join(' ')} failed${error ? `: ${error.message}` : ` with status ${status}`}\n${stdout ?? ''}${stderr ?? ''}`,
  );
}

/** Ends with what it throws. */
function attempt(make) {
  try {
    make();
  } catch (error) {
    fail(error.message);
  }
}

function say(what) {
  process.stderr.write(`setup: ${what}\n`);
}

function fail(why) {
  process.stderr.write(`setup: ${why}\n`);
  process.exit(1);
}
