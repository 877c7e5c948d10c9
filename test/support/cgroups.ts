/** Processes of pods, as a kubelet puts them: into cgroups that are named by the pod's UID. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where processes can be put into cgroups of their own: cgroup v1's, or v2. */
const HIERARCHIES = ['/sys/fs/cgroup/pids', '/sys/fs/cgroup/systemd', '/sys/fs/cgroup'];

const cgroups = HIERARCHIES.find((hierarchy) => {
  const probe = join(hierarchy, `dpi-probe-${process.pid}`);
  try {
    mkdirSync(probe);
    const works = existsSync(join(probe, 'cgroup.procs'));
    rmdirSync(probe);
    return works;
  } catch {
    return false;
  }
});

/** Why no cgroups can be made here; undefined: they can. */
export const whyNoCgroups = cgroups === undefined ? 'no cgroups can be made here' : undefined;

export interface PodCgroups {
  /** @param cgroup Its path, such as `kubepods/pod<uid>/1`. */
  enroll: (pid: number, cgroup: string) => void;
  /** Once the processes in them have been killed. */
  remove: () => Promise<void>;
}

/** Where there are none, nothing can be enrolled. */
export function openCgroups(): PodCgroups {
  const top = join(cgroups ?? '', `dpi-test-${process.pid}`);
  return {
    enroll(pid, cgroup) {
      const folder = join(top, cgroup);
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'cgroup.procs'), String(pid));
    },
    remove: () => (cgroups === undefined ? Promise.resolve() : removeCgroups(top)),
  };
}

/** Its processes have been killed, and are a moment in ending. */
async function removeCgroups(folder: string): Promise<void> {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true }))
    if (entry.isDirectory()) await removeCgroups(join(folder, entry.name));
  const deadline = Date.now() + 30_000;
  while (readFileSync(join(folder, 'cgroup.procs'), 'utf8') !== '' && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 10));
  rmdirSync(folder);
}
