/** What `doctor` finds of the machine: rights, libraries, the engine's search methods, disks, and what interfaces do. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readdir, stat, statfs } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { interfaceState } from '../../capture/interfaces.ts';
import { probeCapture } from '../../capture/probe.ts';
import type { Config } from '../../config/load.ts';
import { findEngine } from '../../engine/find.ts';
import { captureSettings } from '../../lane.ts';
import { existingPart } from '../check.ts';
import type { Finding } from '../finding.ts';
import { plural } from '../print.ts';
import { size } from '../status-view.ts';
import { PROBE_MILLIS } from './limits.ts';

const MAX_INTERFACES = 20;
const LIBRARIES = ['native', 'node-pcap'] as const;
/** Below it, the state directory's disk has no room for alerts that wait. */
const STATE_BYTES = 256 << 20;

/** capabilities(7), by their numbers. */
const CAPABILITIES =
  'chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore'
    .toUpperCase()
    .split(' ');

export function kernel(): Finding {
  return { level: 'info', subject: 'kernel', message: `Linux ${release()}, Node.js ${process.versions.node}` };
}

export function capabilities(): Finding {
  const effective = BigInt(
    `0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0'}`,
  );
  const names = CAPABILITIES.filter((_, bit) => ((effective >> BigInt(bit)) & 1n) === 1n);
  const who = process.getuid?.() === 0 ? 'root' : `uid ${process.getuid?.()}`;
  const lacking = CAPABILITIES.filter((name) => !names.includes(name));
  const which =
    lacking.length === 0
      ? 'all capabilities'
      : lacking.length < names.length
        ? `all capabilities but ${lacking.join(', ')}`
        : names.join(', ') || 'no capability';
  return { level: 'info', subject: 'rights', message: `${who} with ${which}` };
}

/** The libraries that `run` would not take; `check` says which one it takes. */
export async function otherLibraries(config: Config): Promise<Finding[]> {
  const settings = captureSettings(config);
  const used = await probeCapture(settings);
  const others = LIBRARIES.filter((name) => name !== used.library && name !== settings.library);
  return Promise.all(
    others.map(async (library): Promise<Finding> => {
      const probed = await probeCapture({ ...settings, library });
      const message =
        probed.library === undefined
          ? `${probed.reason}; it is not needed`
          : `${library} can be loaded too (capture.library ${library})`;
      return { level: 'info', subject: 'capture', message };
    }),
  );
}

/** What `check` does not say of an engine: whether it matches patterns as fast as it could. */
export async function searchMethods(config: Config): Promise<Finding[]> {
  const engine = await findEngine(config.engine.type, config.engine.binary);
  if (engine.kind === 'missing' || engine.install.name !== 'snort') return [];
  const { searchMethods: methods } = engine.install;
  if (methods.length > 0) return [{ level: 'ok', subject: 'engine', message: `built with ${methods.join(', ')}` }];
  return [
    {
      level: 'info',
      subject: 'engine',
      message: 'built without Hyperscan: patterns are matched by ac_bnfa, which takes several times the CPU',
      remedy: 'build Snort 3 with Hyperscan or Vectorscan',
    },
  ];
}

export async function disks(config: Config): Promise<Finding[]> {
  const subject = 'disk';
  const free = async (path: string): Promise<number> => {
    const { bavail, bsize } = await statfs(existingPart(path));
    return bavail * bsize;
  };
  const { directory, maxSize } = config.journal;
  const files = await readdir(directory).catch(() => []);
  // The oldest may be evicted meanwhile.
  const sizes = files
    .filter((name) => name.endsWith('.ndjson'))
    .map((name) =>
      stat(join(directory, name)).then(
        (file) => file.size,
        () => 0,
      ),
    );
  const used = (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
  const [journal, state] = [await free(directory), await free(config.stateDirectory)];
  const missing = maxSize - used - journal;
  const room = `${directory} has ${size(journal)} free`;
  return [
    missing > 0
      ? {
          level: 'warning',
          subject,
          message: `${room}, ${size(missing)} less than the journal may still take: alerts would wait in the state directory`,
          remedy: `make room, or set journal.maxSize to ${Math.max(2, Math.floor((used + journal) / (2 << 20)))}MiB`,
        }
      : { level: 'ok', subject, message: `${room}, the journal may take ${size(Math.max(0, maxSize - used))} more` },
    state < STATE_BYTES
      ? {
          level: 'warning',
          subject,
          message: `${config.stateDirectory} has ${size(state)} free: alerts that wait for the journal may not fit`,
          remedy: 'make room, or set stateDirectory to another disk',
        }
      : { level: 'ok', subject, message: `${config.stateDirectory} has ${size(state)} free` },
  ];
}

/** Frames of a pod are as large as its veth lets them be; nothing needs to be switched off for that. */
export async function offloads(names: string[]): Promise<Finding[]> {
  const there = names.filter((name) => interfaceState(name).is !== 'absent');
  const findings = await Promise.all(
    there.slice(0, MAX_INTERFACES).map(async (name): Promise<Finding> => {
      const mtu = readFileSync(`/sys/class/net/${name}/mtu`, 'latin1').trim();
      const features = await promisify(execFile)('ethtool', ['-k', name], { timeout: PROBE_MILLIS / 2 }).then(
        ({ stdout }) =>
          [...stdout.matchAll(/^(tcp-segmentation|generic-segmentation|generic-receive)-offload: (on|off)/gm)]
            .map(([, feature, state]) => `${SHORT[feature ?? '']} ${state}`)
            .join(', '),
        () => 'ethtool is not there to tell its offloads',
      );
      return { level: 'info', subject: 'offload', message: `${name}: MTU ${mtu}, ${features}` };
    }),
  );
  const more = there.length - findings.length;
  return more > 0
    ? [...findings, { level: 'info', subject: 'offload', message: `and ${plural(more, 'more interface')}` }]
    : findings;
}

const SHORT: Record<string, string> = {
  'tcp-segmentation': 'TSO',
  'generic-segmentation': 'GSO',
  'generic-receive': 'GRO',
};
