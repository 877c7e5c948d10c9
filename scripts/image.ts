/**
 * Builds the Dockerfile's `suricata` target without a registry of images and without a daemon:
 *   node dist/scripts/image.js [FILE]      default dpi-agent.tar, for `docker load` or `ctr images import`
 * buildah reads the Dockerfile. The base images are made here, from this distribution's packages and this machine's
 * Node. They are for tests: a released image comes from `docker build`.
 *
 * Bases and layers are kept in the user's cache, so that a second build takes seconds. This machine's settings of npm
 * and its certificates are mounted while a step runs and are in no image; those of apt (proxies) are in the base
 * images.
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The agent with Suricata. */
export const AGENT_IMAGE = 'localhost/dpi-agent:test';
/** That, with the Snort 3 of this machine. */
export const SNORT_IMAGE = 'localhost/dpi-agent-snort:test';
/** Puts rules in place, as an init container. */
export const RULES_IMAGE = 'localhost/dpi-agent-rules:test';
/** Node, curl and BusyBox: for pods that talk to each other. */
export const WORKLOAD_IMAGE = 'localhost/dpi-agent-workload:test';

const DEBIAN = 'localhost/dpi-agent-base';
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';
const DEBIAN_NODE = 'localhost/dpi-agent-base-node';

/** From `scripts/` and from `dist/scripts/`. */
const PROJECT = [
  join(dirname(fileURLToPath(import.meta.url)), '..'),
  join(dirname(fileURLToPath(import.meta.url)), '../..'),
]
  .filter((directory) => existsSync(join(directory, 'Dockerfile')))
  .at(0);

/** Where this project keeps what takes long to make. */
export function cacheDirectory(): string {
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'dpi-agent');
}

/** Why images can't be built here; undefined when they can. */
export function whyNoImages(): string | undefined {
  if (process.getuid?.() !== 0) return 'building images without a daemon needs root';
  for (const [program, packageName] of [
    ['buildah', 'buildah'],
    ['mmdebstrap', 'mmdebstrap'],
  ] as const) {
    if (!isOnPath(program)) return `${program} is not installed (apt-get install ${packageName})`;
  }
  if (release() === undefined) return 'base images are made from the packages of Debian or Ubuntu, which this is not';
  return undefined;
}

export function isOnPath(program: string): boolean {
  return spawnSync('sh', ['-c', 'command -v "$0"', program], { stdio: 'ignore' }).status === 0;
}

/** @param say Takes progress lines. @throws Error with the end of what the builder said. */
export async function buildAgentImage(say: (line: string) => void): Promise<void> {
  await trim(say);
  await makeBases(say);
  say(`building ${AGENT_IMAGE} from the Dockerfile`);
  await build(AGENT_IMAGE, [
    '--target=suricata',
    `--build-arg=DEBIAN=${DEBIAN}`,
    `--build-arg=DEBIAN_NODE=${DEBIAN_NODE}`,
    // Not the build stage of the other target.
    '--skip-unused-stages=true',
    PROJECT ?? '.',
  ]);
}

/**
 * Adds this machine's Snort 3, of which Debian has no package, to the agent's image: its folder, and the libraries that
 * it is linked with.
 * @param binary `<prefix>/bin/snort`, of the distribution that images are made of.
 */
export async function buildSnortImage(binary: string, say: (line: string) => void): Promise<void> {
  say(`building ${SNORT_IMAGE} with ${binary}`);
  const prefix = dirname(dirname(realpathSync(binary)));
  const context = join(cacheDirectory(), 'snort');
  rmSync(context, { recursive: true, force: true });
  const root = join(context, 'root');
  const add = (path: string, target: string): void =>
    cpSync(path, join(root, target), {
      recursive: true,
      dereference: true,
      filter: (from) => !/\.(?:a|la)$/.test(from),
    });
  for (const part of ['bin/snort', 'etc/snort', 'lib', 'lib64']) {
    if (existsSync(join(prefix, part))) add(join(prefix, part), join(prefix, part));
  }
  const libraries = (await run('ldd', [binary])).matchAll(/=> (\/\S+)/g);
  for (const [, library = ''] of libraries) {
    // The C library is the image's own.
    if (!/\/(?:libc|libm|ld-[^/]*)\.so/.test(library)) add(library, join(prefix, 'lib', basename(library)));
  }
  mkdirSync(join(root, 'etc/ld.so.conf.d'), { recursive: true });
  writeFileSync(join(root, 'etc/ld.so.conf.d/snort.conf'), `${prefix}/lib\n${prefix}/lib64\n`);
  writeFileSync(
    join(context, 'Dockerfile'),
    [
      `FROM ${AGENT_IMAGE}`,
      'COPY root /',
      `ENV PATH=${prefix}/bin:$PATH`,
      'RUN ldconfig && snort -V >/dev/null',
      '',
    ].join('\n'),
  );
  await build(SNORT_IMAGE, [context]);
}

/** @param say Takes progress lines. */
export async function buildWorkloadImage(say: (line: string) => void): Promise<void> {
  await makeBases(say);
  say(`building ${WORKLOAD_IMAGE}`);
  const context = join(cacheDirectory(), 'workload');
  mkdirSync(context, { recursive: true });
  writeFileSync(
    join(context, 'Dockerfile'),
    [
      `FROM ${DEBIAN}`,
      'RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends curl busybox-static libstdc++6 libatomic1 >/dev/null',
      `COPY --from=${DEBIAN_NODE} /usr/local/bin/node /usr/local/bin/node`,
      'CMD ["busybox", "sleep", "2147483647"]',
      '',
    ].join('\n'),
  );
  await build(WORKLOAD_IMAGE, [context]);
}

/** An image that copies a rule file to the agents' folder of rules when it is run. @param say Takes progress lines. */
export async function buildRulesImage(file: string, say: (line: string) => void): Promise<void> {
  say(`building ${RULES_IMAGE}`);
  const context = join(cacheDirectory(), 'rules');
  rmSync(context, { recursive: true, force: true });
  mkdirSync(join(context, 'community'), { recursive: true });
  copyFileSync(file, join(context, 'community', basename(file)));
  const command = ['busybox', 'cp', '-r', '/rules/community', '/usr/etc/snort/rules/'];
  writeFileSync(
    join(context, 'Dockerfile'),
    [`FROM ${WORKLOAD_IMAGE}`, 'COPY community /rules/community', `CMD ${JSON.stringify(command)}`, ''].join('\n'),
  );
  await build(RULES_IMAGE, [context]);
}

/** Writes an image to a file in docker's format, which is kept until the image changes. @returns its path. */
export async function saveImage(image: string): Promise<string> {
  const directory = join(cacheDirectory(), 'saved', image.replaceAll(/[^\w.-]/g, '_'));
  const file = join(
    directory,
    `${(await buildah('images', '--quiet', '--no-trunc', image)).trim().replace('sha256:', '')}.tar`,
  );
  if (existsSync(file)) return file;
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  await buildah('push', '--quiet', image, `docker-archive:${file}.new:${image}`);
  renameSync(`${file}.new`, file);
  return file;
}

/** The root file systems: minimal, with this machine's sources of packages; and that one with Node, npm and headers. */
async function makeBases(say: (line: string) => void): Promise<void> {
  const { codename = '', sources = [] } = release() ?? {};
  const tag = `${codename}-node${process.version}`;
  if (await exists(`${DEBIAN_NODE}:${tag}`)) {
    await buildah('tag', `${DEBIAN}:${tag}`, `${DEBIAN}:latest`);
    await buildah('tag', `${DEBIAN_NODE}:${tag}`, `${DEBIAN_NODE}:latest`);
    return;
  }
  say(`making a base image of ${codename}`);
  mkdirSync(cacheDirectory(), { recursive: true });
  const tar = join(cacheDirectory(), `base.${process.pid}.tar`);
  try {
    await run('mmdebstrap', [
      '--quiet',
      '--variant=apt',
      '--include=ca-certificates',
      ...aptSettings().map((file) => `--aptopt=${file}`),
      codename,
      tar,
      ...sources,
    ]);
    // Its files are in the image in one layer; apt takes sources in both formats.
    const base = (await buildah('from', 'scratch')).trim();
    await buildah('add', '--quiet', base, tar, '/');
    await buildah('config', '--env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', base);
    await buildah('commit', '--quiet', '--rm', base, `${DEBIAN}:${tag}`);
  } finally {
    rmSync(tar, { force: true });
  }

  const node = realpathSync(process.execPath);
  const prefix = dirname(dirname(node));
  const withNode = (await buildah('from', `${DEBIAN}:${tag}`)).trim();
  await buildah(
    'run',
    '--isolation=chroot',
    withNode,
    'sh',
    '-c',
    'apt-get update -qq && apt-get install -qq -y --no-install-recommends libstdc++6 libatomic1 >/dev/null',
  );
  await buildah('copy', '--quiet', withNode, node, '/usr/local/bin/node');
  await buildah('copy', '--quiet', withNode, join(prefix, 'lib/node_modules/npm'), '/usr/local/lib/node_modules/npm');
  await buildah('copy', '--quiet', withNode, join(prefix, 'include/node'), '/usr/local/include/node');
  await buildah(
    'run',
    '--isolation=chroot',
    withNode,
    'sh',
    '-c',
    'ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm && npm --version',
  );
  // Only the build stages come from this image.
  if (process.env['NODE_EXTRA_CA_CERTS'] !== undefined) {
    await buildah('config', `--env=NODE_EXTRA_CA_CERTS=${CERTIFICATES}`, withNode);
  }
  await buildah('commit', '--quiet', '--rm', withNode, `${DEBIAN_NODE}:${tag}`);
  await makeBases(say);
}

/** This distribution's name and its own sources of packages; undefined when it is neither Debian nor Ubuntu. */
function release(): { codename: string; sources: string[] } | undefined {
  const codename = /^VERSION_CODENAME=(\S+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const sources = ['debian.sources', 'ubuntu.sources']
    .map((name) => join('/etc/apt/sources.list.d', name))
    .concat('/etc/apt/sources.list')
    .filter((file) => existsSync(file) && /^(deb |Types:)/m.test(readFileSync(file, 'utf8')));
  return codename === undefined || sources.length === 0 ? undefined : { codename, sources };
}

/** Files of apt's settings that say how to reach a server. */
function aptSettings(): string[] {
  const directory = '/etc/apt/apt.conf.d';
  return readdirSync(directory)
    .map((name) => join(directory, name))
    .filter((file) => /^\s*Acquire::(http|https|Check)/im.test(readFileSync(file, 'utf8')));
}

/** Mounts for a step that reaches registries: npm's settings and certificates. */
function registrySettings(): string[] {
  const npm = [join(homedir(), '.npmrc'), '/etc/npmrc', '/usr/etc/npmrc'];
  return [
    ...npm.filter(existsSync).map((file) => `--volume=${file}:${file === npm[0] ? '/root/.npmrc' : file}:ro`),
    ...(existsSync(CERTIFICATES) ? [`--volume=${CERTIFICATES}:${CERTIFICATES}:ro`] : []),
  ];
}

async function build(image: string, args: string[]): Promise<void> {
  await buildah(
    'bud',
    '--layers',
    '--force-rm',
    // What a HEALTHCHECK is written in.
    '--format=docker',
    '--isolation=chroot',
    '--pull-never',
    ...registrySettings(),
    `--tag=${image}`,
    ...args,
  );
}

/** Layers of builds long past are kept too: beyond 8 GB, everything is made anew. */
async function trim(say: (line: string) => void): Promise<void> {
  const [size = '0'] = existsSync(store()) ? (await run('du', ['-sm', store()])).split('\t') : [];
  if (Number(size) < 8_000) return;
  say('the cache of images has grown too large: starting anew');
  await buildah('rm', '--all');
  await buildah('rmi', '--all', '--force');
}

async function exists(image: string): Promise<boolean> {
  try {
    await buildah('inspect', '--type=image', image);
    return true;
  } catch {
    return false;
  }
}

const store = (): string => join(cacheDirectory(), 'images');

function buildah(...args: string[]): Promise<string> {
  return run('buildah', [`--root=${store()}`, '--runroot=/run/dpi-agent-images', ...args]);
}

/** @returns standard output. @throws Error with the end of what it said. */
function run(command: string, args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      said = (said + text).slice(-8000);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-8000)));
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(stdout);
      else reject(new Error(`${basename(command)} ${args.join(' ')} failed with status ${code}\n${said}`));
    });
  });
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const say = (line: string): boolean => process.stderr.write(`image: ${line}\n`);
  const missing = whyNoImages();
  if (missing !== undefined) {
    say(missing);
    process.exit(1);
  }
  await buildAgentImage(say);
  const file = process.argv[2] ?? 'dpi-agent.tar';
  copyFileSync(await saveImage(AGENT_IMAGE), file);
  say(`wrote ${file}`);
}
