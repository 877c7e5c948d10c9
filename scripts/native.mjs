#!/usr/bin/env node
/**
 * The native parts, built for this machine: our own (native/capture.c), which is good for every Node, and node-pcap,
 * which is good for one version of Node's binary interface only. Nothing is downloaded: the headers are those of npm's
 * node-api-headers, and those that Node came with.
 *   node scripts/native.mjs [build|lint]
 * Plain JavaScript with Node's own modules: it runs before anything is compiled.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const SOURCE = join(root, 'native/capture.c');
/** Where agent/native.ts looks for it. */
export const ADDON = join(root, 'dist/native/capture.node');
export const NODE_PCAP = join(root, 'node_modules/pcap/build/Release/pcap_binding.node');

const COMPILER = process.env['CC'] || 'cc';
const FLAGS = ['-std=c11', '-O2', '-fPIC', '-fvisibility=hidden', '-fstack-protector-strong'];
const LINK = ['-shared', '-Wl,-z,relro,-z,now', '-lpcap', '-lpthread'];
/** Warnings are errors for those who change the source; another compiler's new ones keep nobody from building. */
const WARNINGS = ['-Wall', '-Wextra', '-Wconversion', '-Wno-sign-conversion', '-Wno-unused-parameter', '-Werror'];
const INCLUDE = ['-I', join(root, 'node_modules/node-api-headers/include')];

/** What it is built with, beyond its source. */
export const BUILT_WITH = [COMPILER, ...FLAGS, ...LINK, process.arch].join(' ');

/** @throws Error with what the compiler says. */
export function buildAddon() {
  mkdirSync(dirname(ADDON), { recursive: true });
  // A process that uses the old file keeps it.
  const made = `${ADDON}.${process.pid}`;
  try {
    run(COMPILER, [...FLAGS, ...INCLUDE, SOURCE, '-o', made, ...LINK]);
    renameSync(made, ADDON);
  } finally {
    rmSync(made, { force: true });
  }
}

/** @throws Error with what the compiler warns of. */
function lintAddon() {
  run(COMPILER, [...FLAGS, ...WARNINGS, ...INCLUDE, '-c', SOURCE, '-o', '/dev/null']);
}

/** Builds node-pcap for the Node that runs this. @throws Error with what the compiler says. */
export function buildNodePcap() {
  run('npm', ['rebuild', 'pcap', '--loglevel=error'], npmEnvironment());
}

/** For npm, so that what it builds is for this Node, and by the headers that it came with. */
export function npmEnvironment(node = process.execPath) {
  const { env } = process;
  const prefix = dirname(dirname(node));
  const headers = existsSync(join(prefix, 'include/node/node.h')) ? { npm_config_nodedir: prefix } : {};
  return { ...env, ...headers, PATH: `${dirname(node)}${delimiter}${env['PATH'] ?? ''}` };
}

function run(program, args, env = process.env) {
  const { status, error, stdout, stderr } = spawnSync(program, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    env,
  });
  if (status === 0) return;
  const end = error === undefined ? ` with status ${status}` : `: ${error.message}`;
  throw new Error(`${program} ${args.join(' ')} failed${end}\n${stdout ?? ''}${stderr ?? ''}`.trimEnd());
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    if (process.argv[2] === 'lint') lintAddon();
    else buildAddon();
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}
