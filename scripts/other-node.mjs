#!/usr/bin/env node
/**
 * Runs tests on another version of Node, the build and the packages being those of this one:
 *   node scripts/other-node.mjs MAJOR [arguments of jest]
 * That Node and a node-pcap for it are kept in a cache outside the work tree. In a mount namespace of the tests, that
 * node-pcap lies over this one's: nothing else sees it. Where this can't be done, one line says so and the tests are
 * skipped. Plain JavaScript with Node's own modules.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { whyNotLoaded } from '../native/load.mjs';
import { NODE_PCAP, npmEnvironment } from './native.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [major = '', ...args] = process.argv.slice(2);
if (!/^\d{2}$/.test(major)) {
  process.stderr.write('other-node.mjs: which version of Node? A number such as 24\n');
  process.exit(2);
}
if (process.versions.node.split('.')[0] === major) skip(`this is Node ${major}`);
if (spawnSync('unshare', ['--mount', '--', 'true']).status !== 0) skip('no right to make a mount namespace');

const cache = join(
  process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'),
  'dpi-agent',
  `node-${major}-${process.arch}`,
);
const node = fetchNode();
const pcap = buildPcap();
// Named network namespaces are mounts too: others can't use those of the tests, and shall not see their names.
const script =
  'mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && mount --bind "$1" "$2" && shift 2 && exec "$@"';
const { status } = spawnSync(
  'unshare',
  [
    '--mount',
    '--',
    'sh',
    '-c',
    script,
    'sh',
    dirname(pcap),
    dirname(NODE_PCAP),
    node,
    join(root, 'scripts/jest.mjs'),
    ...args,
  ],
  { stdio: 'inherit', env: npmEnvironment(node) },
);
process.exit(status ?? 1);

/** @returns its path. */
function fetchNode() {
  const name = `node-linux-${process.arch}`;
  const binary = join(cache, 'node/node_modules', name, 'bin/node');
  if (!existsSync(binary)) install('node', { [name]: major }, process.execPath);
  const { stdout, error } = spawnSync(binary, ['--version'], { encoding: 'utf8' });
  if (error !== undefined || !stdout.startsWith(`v${major}.`)) skip(`${name} does not run here`);
  return binary;
}

/** @returns the path of its native part. */
function buildPcap() {
  const { version } = JSON.parse(readFileSync(join(root, 'node_modules/pcap/package.json'), 'utf8'));
  const folder = `pcap-${version}`;
  const binding = join(cache, folder, 'node_modules/pcap/build/Release', 'pcap_binding.node');
  if (whyNotLoaded(binding, { node }) !== undefined) install(folder, { pcap: version }, node);
  const why = whyNotLoaded(binding, { node });
  if (why !== undefined) skip(`node-pcap is built for it and cannot be loaded: ${why}`);
  return binding;
}

function install(folder, dependencies, by) {
  const directory = join(cache, folder);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  writeFileSync(
    join(directory, 'package.json'),
    JSON.stringify({ private: true, dependencies, allowScripts: { pcap: true } }),
  );
  const { status: code, stderr } = spawnSync('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: directory,
    encoding: 'utf8',
    env: npmEnvironment(by),
  });
  if (code === 0) return;
  rmSync(directory, { recursive: true, force: true });
  skip(
    `npm cannot install ${Object.entries(dependencies).join(' ').replace(',', '@')}: ${(stderr ?? '').trim().split('\n')[0]}`,
  );
}

function skip(why) {
  process.stderr.write(`skipped: tests on Node ${major}: ${why}\n`);
  process.exit(0);
}
