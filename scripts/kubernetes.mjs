#!/usr/bin/env node
/**
 * Builds Kubernetes' own programs, and Helm, for tests into a cache outside the work tree, and prints the folder:
 *   node scripts/kubernetes.mjs [PROGRAM…]
 * No distribution packages them, but their Go modules are public. Some minutes on two cores, once; then a moment. Plain
 * JavaScript with Node's own modules: setup.mjs calls it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const KUBERNETES = 'v1.34.4';
const ETCD = 'v3.6.4';
/** The newest of each that asks for these modules of Kubernetes: all programs are built from one list of modules, and share most of what is compiled. */
const COREDNS = 'v1.12.4';
const HELM_VERSION = 'v3.19.5';
/** Programs, and the packages that they are built from. */
const PACKAGES = {
  etcd: 'go.etcd.io/etcd/server/v3',
  ...Object.fromEntries(
    ['kube-apiserver', 'kube-controller-manager', 'kube-proxy', 'kube-scheduler', 'kubectl', 'kubelet'].map((name) => [
      name,
      `k8s.io/kubernetes/cmd/${name}`,
    ]),
  ),
  coredns: './coredns',
  helm: 'helm.sh/helm/v3/cmd/helm',
};
/** CoreDNS with the plugins that scripts/cluster.ts uses; its own program has those of all clouds. */
const COREDNS_MAIN = `package main

import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/kubernetes"
)

func main() { coremain.Run() }
`;
/** What a test against an API server needs. */
export const CONTROL_PLANE = ['etcd', 'kube-apiserver', 'kubectl'];
/** What a node with pods needs. */
export const CLUSTER = Object.keys(PACKAGES).filter((name) => name !== 'helm');
/** What tests of the chart need. */
export const HELM = ['helm'];

/** The folder whose `bin/` holds the programs, once built. */
export function kubernetesDirectory() {
  const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return join(cache, 'dpi-agent', `kubernetes-${KUBERNETES}-etcd-${ETCD}`);
}

/** @returns those of the programs that are not built yet. */
export function missingPrograms(programs = CONTROL_PLANE) {
  return programs.filter((name) => !existsSync(join(kubernetesDirectory(), 'bin', name)));
}

/** Why the programs are not there and can't be built here; undefined when they are or can. */
export function whyNoKubernetes(programs = CONTROL_PLANE) {
  const missing = missingPrograms(programs);
  if (missing.length === 0) return undefined;
  const { stdout, error } = spawnSync('go', ['version'], { encoding: 'utf8' });
  if (error !== undefined) return `Go is not installed, which builds ${missing.join(', ')}`;
  const [, minor = '0'] = /go1\.(\d+)/.exec(stdout) ?? [];
  // From 1.21 on, Go fetches the version that a module asks for.
  return Number(minor) < 21 ? `${stdout.trim()} cannot build ${missing.join(', ')}: Go 1.21 or newer can` : undefined;
}

/** Builds those of the programs that are missing. @throws Error with what Go said. */
export function buildKubernetes(programs = CONTROL_PLANE) {
  const directory = kubernetesDirectory();
  const missing = missingPrograms(programs);
  if (missing.length === 0) return;
  mkdirSync(join(directory, 'bin'), { recursive: true });
  const work = mkdtempSync(join(directory, 'build-'));
  try {
    writeFileSync(join(work, 'go.mod'), goModule(work));
    mkdirSync(join(work, 'coredns'));
    writeFileSync(join(work, 'coredns', 'main.go'), COREDNS_MAIN);
    const packages = missing.map((name) => PACKAGES[name]);
    // What debuggers read is a sixth of the compiler's work, and is not linked.
    const flags = ['-mod=mod', '-gcflags=all=-dwarf=false', '-ldflags', `-s -w ${versionFlags()}`];
    go(work, 'build', ...flags, '-o', 'bin/', ...packages);
    // Go names etcd's program after its module's version, or the element before it.
    for (const name of ['v3', 'server']) {
      if (existsSync(join(work, 'bin', name))) renameSync(join(work, 'bin', name), join(work, 'bin/etcd'));
    }
    for (const name of missing) renameSync(join(work, 'bin', name), join(directory, 'bin', name));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function versionFlags() {
  return ['k8s.io/component-base/version', 'k8s.io/client-go/pkg/version']
    .map(
      (variables) => `-X ${variables}.gitVersion=${KUBERNETES} -X ${variables}.gitMajor=1 -X ${variables}.gitMinor=34`,
    )
    .join(' ');
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
    `require github.com/coredns/coredns ${COREDNS}`,
    `require helm.sh/helm/v3 ${HELM_VERSION}`,
    ...parts.map((name) => `replace ${name} => ${name} ${KUBERNETES.replace('v1', 'v0')}`),
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
  const named = process.argv.slice(2);
  const programs = named.length === 0 ? Object.keys(PACKAGES) : named;
  try {
    const why = whyNoKubernetes(programs);
    if (why !== undefined) throw new Error(why);
    buildKubernetes(programs);
    process.stdout.write(`${kubernetesDirectory()}\n`);
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
