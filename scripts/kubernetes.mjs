#!/usr/bin/env node
/**
 * Builds Kubernetes' own programs for tests into a cache outside the work tree, and prints the folder:
 *   node scripts/kubernetes.mjs
 * They are in no package registry of a distribution, but their Go modules are in Go's. About four minutes on two cores, once; then a
 * moment. Plain JavaScript with Node's own modules: setup.mjs calls it.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const KUBERNETES = 'v1.34.4';
const ETCD = 'v3.6.4';
const COMMANDS = ['kube-apiserver', 'kube-controller-manager', 'kube-proxy', 'kube-scheduler', 'kubectl', 'kubelet'];

/** Where the programs are, once built. */
export function kubernetesDirectory() {
  const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  const recipe = createHash('sha256')
    .update([KUBERNETES, ETCD, ...COMMANDS].join(' '))
    .digest('hex');
  return join(cache, 'dpi-agent', `kubernetes-${KUBERNETES}-${recipe.slice(0, 8)}`);
}

/** Why they can't be built here; undefined when they can, or are built. */
export function whyNoKubernetes() {
  if (existsSync(join(kubernetesDirectory(), 'bin'))) return undefined;
  const { stdout, error } = spawnSync('go', ['version'], { encoding: 'utf8' });
  if (error !== undefined) return 'Go is not installed, which builds kube-apiserver and etcd';
  const [, minor = '0'] = /go1\.(\d+)/.exec(stdout) ?? [];
  // From 1.21 on, Go fetches the version that a module asks for.
  return Number(minor) < 21
    ? `${stdout.trim()} is too old to build kube-apiserver and etcd: Go 1.21 or newer`
    : undefined;
}

/** @throws Error with what Go said. */
export function buildKubernetes() {
  const directory = kubernetesDirectory();
  if (existsSync(join(directory, 'bin'))) return directory;
  const work = `${directory}.${process.pid}`;
  mkdirSync(work, { recursive: true });
  try {
    writeFileSync(join(work, 'go.mod'), goModule(work));
    go(work, 'mod', 'tidy');
    const version = ['k8s.io/component-base/version', 'k8s.io/client-go/pkg/version']
      .map(
        (variables) =>
          `-X ${variables}.gitVersion=${KUBERNETES} -X ${variables}.gitMajor=1 -X ${variables}.gitMinor=34`,
      )
      .join(' ');
    go(work, 'build', '-ldflags', `-s -w ${version}`, '-o', 'bin/', 'tool');
    // etcd's module calls its program `v3`, or by its last element, as Go names programs.
    if (existsSync(join(work, 'bin/server'))) renameSync(join(work, 'bin/server'), join(work, 'bin/etcd'));
    renameSync(work, directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return directory;
}

function goModule(work) {
  const { GoMod } = JSON.parse(go(work, 'mod', 'download', '-json', `k8s.io/kubernetes@${KUBERNETES}`));
  // Kubernetes' own go.mod takes its parts from its tree; published, they are modules of version 0.
  const parts = [...readFileSync(GoMod, 'utf8').matchAll(/^\s*(k8s\.io\/\S+) => \.\/staging/gm)].map(
    ([, name]) => name,
  );
  return [
    'module tools',
    'go 1.24.0',
    `require k8s.io/kubernetes ${KUBERNETES}`,
    `require go.etcd.io/etcd/server/v3 ${ETCD}`,
    ...parts.map((name) => `replace ${name} => ${name} ${KUBERNETES.replace('v1', 'v0')}`),
    ...COMMANDS.map((name) => `tool k8s.io/kubernetes/cmd/${name}`),
    'tool go.etcd.io/etcd/server/v3',
    '',
  ].join('\n');
}

function go(directory, ...args) {
  const { status, error, stdout, stderr } = spawnSync('go', args, {
    cwd: directory,
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    env: { ...process.env, GOFLAGS: '-buildvcs=false', CGO_ENABLED: '0' },
  });
  if (status === 0) return stdout;
  throw new Error(`go ${args.join(' ')} failed${error ? `: ${error.message}` : ''}\n${(stderr ?? '').slice(-4000)}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const why = whyNoKubernetes();
  if (why !== undefined) {
    process.stderr.write(`${why}\n`);
    process.exit(1);
  }
  process.stdout.write(`${buildKubernetes()}\n`);
}
