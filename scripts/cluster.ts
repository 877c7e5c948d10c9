/**
 * A real cluster of one node: etcd, kube-apiserver, controller-manager, scheduler, containerd, kubelet, kube-proxy,
 * CoreDNS and CNI's plug-ins, in namespaces of its own (network, mounts, processes, cgroups, host name). The machine's
 * network, containerd, kubelet and folders are not touched: /run, /var/lib and /var/log are the node's own there.
 * Images are kept in memory, some 2 GB.
 *
 * Everything ends with close(), with a signal, and with the process that opened it, even when that one is killed with
 * -9; what a killed one leaves are a folder in the user's cache and empty cgroups, which the next one of the same kind
 * removes. Two of one kind can't run side by side.
 */
import { spawn, spawnSync, type ChildProcess, type SpawnOptions } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { startControlPlane, type ControlPlane } from './control-plane.ts';
import { cacheDirectory, isOnPath, whyNoImages, WORKLOAD_IMAGE } from './image.ts';

export const NODE = 'node-1';
export const NODE_ADDRESS = '10.90.0.1';
const SERVICES = '10.96.0.0/16';
/** The Service of that address is CoreDNS on the node. */
const DNS_ADDRESS = '10.96.0.10';
const DNS_PORT = 5353;
const PODS = '10.88.0.0/24';
/** Where distributions put CNI's plug-ins. */
const CNI_FOLDERS = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'];
/** Every wait ends with an error by then; a machine of a tenth of the speed is within it. */
const DEADLINE_MILLIS = 300_000;

export interface ClusterOptions {
  /**
   * How pods get their network: `ptp` gives each a veth and the node a /32 route to it, much as Calico does; `bridge`
   * joins all veths in one bridge.
   */
  cni: 'ptp' | 'bridge';
  /** The folder of etcd and Kubernetes' own programs. */
  binaries: string;
  /** Takes progress lines. */
  say?: (line: string) => void;
}

export interface Workload {
  name: string;
  namespace?: string;
  labels?: Record<string, string>;
  /** What runs in it; by default nothing but a sleep. */
  command?: string[];
}

export interface Cluster {
  /** Runs kubectl as the administrator. @throws Error with what it said. */
  kubectl(...args: string[]): string;
  /** kubectl get, parsed. */
  get(...args: string[]): unknown;
  apply(...objects: object[]): void;
  /** Loads the images of a file in docker's format into the node. */
  loadImage(file: string): void;
  /** Makes a pod of the workload image (which has to be loaded) and waits until it is ready. @returns its address. */
  addWorkload(workload: Workload): Promise<string>;
  /** Runs a command on the node: in its namespaces, as root. @throws Error with what it said. */
  onNode(command: string, ...args: string[]): string;
  /** Starts a command there; it ends with the cluster. `KUBECONFIG` is the administrator's, kubectl is on its PATH. */
  spawn(command: string, args: string[], options?: SpawnOptions): ChildProcess;
  /** A command's beginning that runs it in the node's network, and with all else of this machine. */
  enterNetwork: readonly string[];
  /** Where a path of the node below /run, /var/lib or /var/log lies on this machine. */
  nodePath(path: string): string;
  close(): Promise<void>;
}

/** Why there can be no cluster here, in one line; undefined when there can, given Kubernetes' own programs. */
export function whyNoCluster(): string | undefined {
  if (process.getuid?.() !== 0) return 'a cluster needs root: namespaces, mounts and cgroups';
  const programs = {
    containerd: 'containerd',
    ctr: 'containerd',
    runc: 'runc',
    ip: 'iproute2',
    iptables: 'iptables',
    unshare: 'util-linux',
  };
  for (const [program, packageName] of Object.entries(programs)) {
    if (!isOnPath(program)) return `a cluster needs ${program}: apt-get install ${packageName}`;
  }
  if (cniFolder() === undefined)
    return 'a cluster needs the plug-ins of CNI: apt-get install containernetworking-plugins';
  const hierarchies = cgroupHierarchies();
  if (hierarchies.length === 0) return 'a cluster needs cgroups, and none are mounted here';
  const readOnly = hierarchies.find(({ mount }) => spawnSync('test', ['-w', mount]).status !== 0);
  if (readOnly !== undefined) return `a cluster needs to make cgroups, and ${readOnly.mount} is read-only`;
  if (spawnSync('unshare', ['--net', '--mount', '--pid', '--fork', '--cgroup', 'true']).status !== 0) {
    return 'a cluster needs namespaces of its own, and unshare has no right to make them here';
  }
  return whyNoImages();
}

/** @throws Error that says which part does not start, with the end of its log. */
export async function openCluster({ cni, binaries, say = () => undefined }: ClusterOptions): Promise<Cluster> {
  const name = `dpi-agent-cluster-${cni}`;
  const directory = join(cacheDirectory(), `cluster-${cni}`);
  const path = (...parts: string[]): string => join(directory, ...parts);
  const children: ChildProcess[] = [];
  let controlPlane: ControlPlane | undefined;

  await removeLeftovers(name, directory);
  for (const part of ['run', 'lib', 'log', 'logs']) mkdirSync(path(part), { recursive: true });

  say(`starting a node with CNI ${cni}`);
  const node = await startNode(name, directory);
  children.push(node.child);
  const enter = (...kinds: string[]): string[] => ['nsenter', '-t', String(node.pid), ...kinds, '--'];
  const inside = enter('-n', '-m', '-p', '-u', '-i', '-C');
  const exit = (): void => void node.child.kill('SIGKILL');
  const interrupt = (signal: NodeJS.Signals): void => {
    void close().finally(() => process.kill(process.pid, signal));
  };
  process.once('exit', exit);
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);

  function onNode(command: string, ...args: string[]): string {
    const [program = '', ...rest] = [...inside, command, ...args];
    const { status, error, stdout, stderr } = spawnSync(program, rest, { encoding: 'utf8', maxBuffer: 64 << 20 });
    if (status === 0) return stdout;
    throw new Error(`${command} ${args.join(' ')} on the node: ${error?.message ?? `${stderr}${stdout}`.trim()}`);
  }

  /** Starts a program of the node; its output is in `logs/`. */
  function start(program: string, ...args: string[]): void {
    const label = program.split('/').at(-1) ?? program;
    const log = openSync(path('logs', `${label}.log`), 'a');
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...inside, program, ...args], {
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    child.once('exit', () => ended.set(label, tail(path('logs', `${label}.log`))));
    children.push(child);
  }

  const ended = new Map<string, string>();

  /** @throws Error when a program ended, or it takes too long. */
  async function until(what: string, check: () => boolean): Promise<void> {
    const deadline = Date.now() + DEADLINE_MILLIS;
    for (;;) {
      try {
        if (check()) return;
      } catch (error) {
        if (Date.now() > deadline) throw error;
      }
      for (const [label, log] of ended) throw new Error(`${label} ended while ${what} was waited for:\n${log}`);
      if (Date.now() > deadline) throw new Error(`${what}: it took too long; logs are in ${path('logs')}`);
      await sleep(200);
    }
  }

  async function close(): Promise<void> {
    process.off('exit', exit);
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
    await controlPlane?.close();
    // The first process of the node's process namespace: with it, all others are killed.
    const gone = children
      .filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null)
      .map((child) => new Promise((resolve) => child.once('exit', resolve)));
    node.child.kill('SIGKILL');
    await Promise.all(gone);
    await removeLeftovers(name, directory);
  }

  try {
    writeConfiguration(cni, directory);
    onNode('ip', 'link', 'set', 'lo', 'up');
    onNode('ip', 'link', 'add', 'node0', 'type', 'bridge');
    onNode('ip', 'addr', 'add', `${NODE_ADDRESS}/24`, 'dev', 'node0');
    onNode('ip', 'link', 'set', 'node0', 'up');
    // Kubernetes' programs look for it; nothing lies behind it.
    onNode('ip', 'route', 'add', 'default', 'dev', 'node0');
    onNode('sysctl', '-qw', 'net.ipv4.ip_forward=1');

    say('starting etcd and kube-apiserver');
    const plane = await startControlPlane({
      directory: path('control-plane'),
      binaries,
      bindAddress: NODE_ADDRESS,
      serviceCidr: SERVICES,
      // Not in its process namespace: these are ended by their own ids.
      wrap: (command, args) => ['setpriv', ['--pdeathsig', 'KILL', ...enter('-n', '-m'), command, ...args]],
      users: {
        [`system:node:${NODE}`]: ['system:nodes'],
        'system:kube-controller-manager': [],
        'system:kube-scheduler': [],
        'system:kube-proxy': [],
        // May list what CoreDNS looks up, and much more: nobody but this node reaches it.
        coredns: ['system:masters'],
      },
      apiServerArgs: ['--kubelet-preferred-address-types=InternalIP'],
    });
    controlPlane = plane;

    say('starting containerd, kubelet, kube-controller-manager, kube-scheduler, kube-proxy, CoreDNS');
    start('containerd', '--config', path('containerd.toml'));
    start(
      join(binaries, 'kube-controller-manager'),
      `--kubeconfig=${plane.user('system:kube-controller-manager')}`,
      '--use-service-account-credentials',
      `--service-account-private-key-file=${path('control-plane/service-accounts.key')}`,
      `--root-ca-file=${plane.ca}`,
      '--leader-elect=false',
    );
    start(
      join(binaries, 'kube-scheduler'),
      `--kubeconfig=${plane.user('system:kube-scheduler')}`,
      '--leader-elect=false',
    );
    await until('containerd', () => onNode('ctr', 'version') !== '');
    start(
      join(binaries, 'kubelet'),
      `--config=${path('kubelet.yaml')}`,
      `--kubeconfig=${plane.user(`system:node:${NODE}`)}`,
      `--hostname-override=${NODE}`,
      `--node-ip=${NODE_ADDRESS}`,
      '--v=2',
    );
    start(
      join(binaries, 'kube-proxy'),
      `--kubeconfig=${plane.user('system:kube-proxy')}`,
      `--hostname-override=${NODE}`,
      `--cluster-cidr=${PODS}`,
      '--proxy-mode=iptables',
      '--conntrack-max-per-core=0',
    );
    writeFileSync(
      path('Corefile'),
      `.:${DNS_PORT} {
  bind ${NODE_ADDRESS}
  kubernetes cluster.local {
    kubeconfig ${plane.user('coredns')}
  }
}
`,
    );
    start(join(binaries, 'coredns'), '-conf', path('Corefile'));
    plane.apply(...dnsService());
    await until(
      'the node',
      () =>
        plane.kubectl('get', 'node', NODE, '-o', 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') === 'True',
    );
    await until('the default service account', () => plane.kubectl('get', 'serviceaccount', 'default') !== '');
    say('the node is ready');

    return {
      kubectl: (...args) => plane.kubectl(...args),
      get: (...args) => JSON.parse(plane.kubectl('get', ...args, '-o', 'json')) as unknown,
      apply: (...objects) => plane.apply(...objects),
      loadImage: (file) => void onNode('ctr', '-n', 'k8s.io', 'images', 'import', file),
      onNode,
      spawn(command, args, options = {}) {
        const rest = ['--pdeathsig', 'KILL', ...inside, command, ...args];
        const env = { ...process.env, KUBECONFIG: plane.kubeconfig, PATH: `${binaries}:${process.env['PATH'] ?? ''}` };
        const child = spawn('setpriv', rest, { ...options, env: { ...env, ...options.env } });
        children.push(child);
        return child;
      },
      enterNetwork: enter('-n'),
      nodePath(nodePath) {
        const [, part, rest] = /^\/(run|var\/lib|var\/log)\/(.*)/.exec(nodePath) ?? [];
        if (part === undefined || rest === undefined) throw new Error(`${nodePath} is not the node's own`);
        return path(part.replace('var/', ''), rest);
      },
      async addWorkload({ name: pod, namespace = 'default', labels = {}, command }) {
        const container = {
          name: 'main',
          image: WORKLOAD_IMAGE,
          imagePullPolicy: 'Never',
          ...(command ? { command } : {}),
        };
        plane.apply({
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name: pod, namespace, labels },
          spec: { containers: [container], terminationGracePeriodSeconds: 0 },
        });
        await until(`pod ${pod}`, () => {
          const status = `jsonpath={.status.conditions[?(@.type=="Ready")].status}`;
          return plane.kubectl('get', 'pod', '-n', namespace, pod, '-o', status) === 'True';
        });
        return plane.kubectl('get', 'pod', '-n', namespace, pod, '-o', 'jsonpath={.status.podIP}');
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** CoreDNS is a process of the node, not a pod: so its Service has no selector, and its endpoint is written here. */
function dnsService(): object[] {
  const metadata = { name: 'kube-dns', namespace: 'kube-system' };
  const ports = (['UDP', 'TCP'] as const).map((protocol) => ({ name: `dns-${protocol.toLowerCase()}`, protocol }));
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata,
      spec: { clusterIP: DNS_ADDRESS, ports: ports.map((port) => ({ ...port, port: 53, targetPort: DNS_PORT })) },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { ...metadata, labels: { 'kubernetes.io/service-name': 'kube-dns' } },
      addressType: 'IPv4',
      ports: ports.map((port) => ({ ...port, port: DNS_PORT })),
      endpoints: [{ addresses: [NODE_ADDRESS], conditions: { ready: true } }],
    },
  ];
}

/** The node's first process: it holds the namespaces and buries the dead. */
async function startNode(name: string, directory: string): Promise<{ child: ChildProcess; pid: number }> {
  const cgroups = cgroupHierarchies();
  for (const { mount, options } of cgroups) {
    const group = join(mount, name);
    mkdirSync(group, { recursive: true });
    // Version 1: a new group has no processors and no memory until it is given some.
    for (const file of options.includes('cpuset') ? ['cpuset.cpus', 'cpuset.mems'] : []) {
      writeFileSync(join(group, file), readFileSync(join(mount, file), 'utf8'));
    }
  }
  const unified = cgroups.length === 1 && cgroups[0]?.options === '';
  const script = [
    'set -e',
    // The old /proc is still mounted: this is the number of this process on the machine.
    'read -r pid rest < /proc/self/stat',
    'mount -t proc proc /proc',
    'mount -t sysfs sysfs /sys',
    ...(unified
      ? [
          'mount -t cgroup2 cgroup2 /sys/fs/cgroup',
          // A group with controllers for its children can have no processes itself.
          'mkdir /sys/fs/cgroup/init && echo 1 > /sys/fs/cgroup/init/cgroup.procs',
          'for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo "+$c" > /sys/fs/cgroup/cgroup.subtree_control; done',
        ]
      : [
          'mount -t tmpfs tmpfs /sys/fs/cgroup',
          ...cgroups.flatMap(({ mount, options }) => [
            `mkdir -p ${mount}`,
            `mount -t cgroup -o ${options} cgroup ${mount}`,
          ]),
        ]),
    `hostname ${NODE}`,
    `mount --bind ${join(directory, 'hosts')} /etc/hosts`,
    `mount --bind ${join(directory, 'run')} /run`,
    `mount --bind ${join(directory, 'lib')} /var/lib`,
    `mount --bind ${join(directory, 'log')} /var/log`,
    // Images: quick, and overlays can lie on it even where the disk is one itself.
    'mkdir /var/lib/containerd && mount -t tmpfs tmpfs /var/lib/containerd',
    // What containers mount can be seen by others that ask for it.
    'mount --make-rshared /',
    'echo "$pid"',
    'exec >/dev/null',
    'sleep infinity & while :; do wait; done',
  ].join('\n');
  writeFileSync(join(directory, 'hosts'), `127.0.0.1 localhost\n${NODE_ADDRESS} ${NODE}\n`);
  const enterGroups = cgroups.map(({ mount }) => `echo $$ > ${join(mount, name)}/cgroup.procs`).join(' && ');
  const child = spawn(
    'setpriv',
    [
      '--pdeathsig',
      'KILL',
      'sh',
      '-c',
      `${enterGroups} && exec unshare --net --mount --pid --fork --kill-child --cgroup --uts --ipc sh -c "$0"`,
      script,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const pid = await new Promise<number>((resolve, reject) => {
    let said = '';
    child.stdout.once('data', (line: Buffer) => resolve(Number(line.toString().trim())));
    child.stderr.on('data', (text: Buffer) => (said += text.toString()));
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the node's namespaces can't be made (status ${code}): ${said}`)));
  });
  return { child, pid };
}

function writeConfiguration(cni: ClusterOptions['cni'], directory: string): void {
  const path = (...parts: string[]): string => join(directory, ...parts);
  const binDirectory = cniFolder() ?? '';
  mkdirSync(path('cni'), { recursive: true });
  const ipam = { type: 'host-local', ranges: [[{ subnet: PODS }]], routes: [{ dst: '0.0.0.0/0' }] };
  const plugin =
    cni === 'ptp'
      ? { type: 'ptp', ipMasq: false, mtu: 1500, ipam }
      : { type: 'bridge', bridge: 'cni0', isGateway: true, hairpinMode: true, mtu: 1500, ipam };
  writeFileSync(path('cni/10-pods.conflist'), JSON.stringify({ cniVersion: '0.4.0', name: 'pods', plugins: [plugin] }));
  writeFileSync(
    path('containerd.toml'),
    `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${WORKLOAD_IMAGE}"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "${binDirectory}"
  conf_dir = "${path('cni')}"
`,
  );
  writeFileSync(path('run/resolv.conf'), 'nameserver 127.0.0.1\n');
  writeFileSync(
    path('kubelet.yaml'),
    stringify({
      apiVersion: 'kubelet.config.k8s.io/v1beta1',
      kind: 'KubeletConfiguration',
      containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
      // Nobody but this node's own programs reaches it.
      authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
      authorization: { mode: 'AlwaysAllow' },
      cgroupDriver: 'cgroupfs',
      failCgroupV1: false,
      failSwapOn: false,
      resolvConf: '/run/resolv.conf',
      clusterDNS: [DNS_ADDRESS],
      clusterDomain: 'cluster.local',
      // The machine's disk may be fuller than a node's should be.
      evictionHard: {
        'imagefs.available': '0%',
        'nodefs.available': '0%',
        'nodefs.inodesFree': '0%',
        'memory.available': '0%',
      },
      imageGCHighThresholdPercent: 100,
      localStorageCapacityIsolation: false,
      oomScoreAdj: 0,
      makeIPTablesUtilChains: false,
    }),
  );
}

interface Hierarchy {
  /** Where it is mounted. */
  mount: string;
  /** Of the mount, such as `cpu,cpuacct`; empty for version 2. */
  options: string;
}

/** The mounted cgroups: all of version 1, or the one of version 2. */
function cgroupHierarchies(): Hierarchy[] {
  const flags = new Set([
    'rw',
    'ro',
    'nsdelegate',
    'memory_recursiveprot',
    'xattr',
    'clone_children',
    'relatime',
    'seclabel',
  ]);
  const found = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .flatMap(([, mount = '', type = '', options = '']) =>
      type === 'cgroup' || type === 'cgroup2'
        ? [
            {
              mount,
              version: type === 'cgroup' ? 1 : 2,
              options:
                type === 'cgroup2'
                  ? ''
                  : options
                      .split(',')
                      .filter((option) => !flags.has(option) && !option.startsWith('release_agent='))
                      .map((option) => (option.startsWith('name=') ? `none,${option}` : option))
                      .join(','),
            },
          ]
        : [],
    );
  // One may be mounted in several places, as for a chroot: the first is the machine's own.
  const first = found.filter(
    ({ version, options }, index) =>
      version === 1 && found.findIndex((other) => other.version === 1 && other.options === options) === index,
  );
  return (first.length > 0 ? first : found.filter(({ mount }) => mount === '/sys/fs/cgroup')).map(
    ({ mount, options }) => ({
      mount,
      options,
    }),
  );
}

/** Removes what a killed cluster left: its cgroups, when their last process is gone, and its folder. */
async function removeLeftovers(name: string, directory: string): Promise<void> {
  const deadline = Date.now() + 30_000;
  for (const { mount } of cgroupHierarchies()) {
    while (!removeCgroup(join(mount, name))) {
      if (Date.now() > deadline)
        throw new Error(`${join(mount, name)} has processes: another cluster of this kind runs`);
      await sleep(100);
    }
  }
  if (readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${directory}/`)) {
    throw new Error(`${directory} has mounts that were not made here: unmount them`);
  }
  rmSync(directory, { recursive: true, force: true });
}

/** @returns whether it is gone. */
function removeCgroup(group: string): boolean {
  if (!existsSync(group)) return true;
  for (const entry of readdirSync(group, { withFileTypes: true })) {
    if (entry.isDirectory()) removeCgroup(join(group, entry.name));
  }
  try {
    rmdirSync(group);
    return true;
  } catch {
    return false;
  }
}

function cniFolder(): string | undefined {
  return CNI_FOLDERS.find((folder) => existsSync(join(folder, 'ptp')) && existsSync(join(folder, 'host-local')));
}

function tail(file: string): string {
  return readFileSync(file, 'utf8').slice(-4000);
}
