/**
 * One seed is one run of a cluster: pods and resources come, change and go, the API server fails as servers do, the
 * disk too; the agent is killed, loses power or ends in order, and begins again. At last all faults end, nothing
 * changes any more, and what is captured has to be what the resources select.
 */
import { seeded } from '../../support/random.ts';
import { createClock, turn } from '../clock.ts';
import { createDisk, FAIR } from '../disk.ts';
import { MINUTE, pick } from '../plan.ts';
import { runCluster, type ClusterMachine } from './agent.ts';
import { createApiServer, MOODS } from './api-server.ts';
import { createClusterNode } from './node.ts';
import { createClusterOracle } from './oracle.ts';

const MAX_STEPS = 100_000;
/** Longer than any pause: a server that lost an API is asked again after 10 minutes. */
const SETTLING_MILLIS = 15 * MINUTE;
/** How long the server is away at the end of the changes. */
const AWAY_MILLIS = 5000;
const APIS = ['projectcalico.org/v3', 'projectcalico.org/v3', 'crd.projectcalico.org/v1'] as const;

export interface ClusterResult {
  /** The obligation, and how. */
  broken?: string;
  requests: number;
  kills: number;
  powerCuts: number;
  stops: number;
  attached: number;
  /** The same for the same seed. */
  digest: number;
}

type How = 'kill' | 'power cut' | 'stop';

/** @param trace Called with each call of the disk, and each change of the server's mood. */
export async function simulateCluster(seed: number, trace?: (line: string) => void): Promise<ClusterResult> {
  const machine = createMachine(seed);
  const { clock, disk, node, oracle, random, server } = machine;
  disk.trace = trace;
  const ends = { kill: 0, 'power cut': 0, stop: 0 };
  const lives = Array.from({ length: Math.ceil(random() * 3) }, () => pick<How>(random, ['kill', 'power cut', 'stop']));
  const pause = pick(random, [500, 5000, 30_000]);
  const changes = changeAll(machine, pause, trace);
  for (const how of lives) {
    await live(machine, how, random() * pick(random, [10, 60, 60]) * Math.min(pause, 10_000), false);
    ends[how] += 1;
    disk.restart(how === 'power cut' ? 'power cut' : 'kill');
    server.hangUp();
    node.onInterfaces = () => undefined;
    oracle.ended();
    if (oracle.broken() !== undefined) break;
  }
  if (oracle.broken() === undefined) {
    // The last one has lived through some of it.
    const millis = random() * 60 * Math.min(pause, 10_000);
    clock.outside(millis, changes.end);
    await live(machine, 'stop', millis + SETTLING_MILLIS, true);
  }
  const broken = oracle.broken();
  return {
    ...(broken === undefined ? {} : { broken }),
    requests: server.requests(),
    kills: ends.kill,
    powerCuts: ends['power cut'],
    stops: ends.stop,
    ...oracle.facts(),
    digest: disk.digest() ^ server.requests() ^ (clock.now() * 1000),
  };
}

function createMachine(seed: number): ClusterMachine {
  const random = seeded(seed);
  const clock = createClock();
  const disk = createDisk(clock, seeded(seed + 0x1000_0000), ['/var/lib']);
  const server = createApiServer(clock, seeded(seed + 0x2000_0000));
  const node = createClusterNode(clock, seeded(seed + 0x3000_0000), server);
  const oracle = createClusterOracle(node, clock.wall);
  return { clock, disk, server, node, oracle, random: seeded(seed + 0x4000_0000), blind: pick(random, [0, 0.2]) };
}

/** One life of the process. */
async function live(machine: ClusterMachine, how: How, millis: number, settles: boolean): Promise<void> {
  const { clock, oracle, disk } = machine;
  const life = { stopping: false, settles };
  let isOver = false;
  clock.after(millis, () => {
    if (how === 'stop') life.stopping = true;
    else isOver = true;
  });
  let outcome: { error?: unknown } | undefined;
  runCluster(machine, life).then(
    () => (outcome = {}),
    (error: unknown) => (outcome = { error }),
  );
  for (let steps = 0; oracle.broken() === undefined && !isOver && !disk.crashed; steps++) {
    await turn();
    if (outcome?.error !== undefined) throw outcome.error as Error;
    if (outcome !== undefined) break;
    if (steps > MAX_STEPS || !clock.step()) oracle.stuck();
  }
  await turn();
  clock.clear();
}

/** Pods, resources, their API, the server's mood and the disk's weather, until it ends. */
function changeAll(
  { clock, disk, node, random, server }: ClusterMachine,
  pause: number,
  trace?: (line: string) => void,
): { end: () => void } {
  let isOver = false;
  const every = (millis: number, action: () => void): void => {
    clock.outside(random() * millis, () => {
      if (isOver) return;
      action();
      every(millis, action);
    });
  };
  node.serve(random() < 0.2 ? undefined : pick(random, APIS));
  for (let times = 0; times < 8; times++) node.act();
  every(pause, () => node.act());
  every(4 * pause, () => {
    server.mood = pick(random, MOODS);
    if (random() < 0.3) server.compact();
    trace?.(`${clock.now().toFixed(3)} ${server.mood}`);
  });
  every(20 * pause, () => node.serve(random() < 0.2 ? undefined : pick(random, APIS)));
  every(10 * pause, () => {
    const isBad = random() < 0.4;
    disk.weather = isBad ? { ...FAIR, full: random() < 0.5 ? random() * 0.5 : 0, broken: random() * 0.2 } : FAIR;
  });
  return {
    end() {
      isOver = true;
      disk.weather = FAIR;
      // The last changes are missed at times: no watch tells of them, and what is gone is just not in the next list.
      if (random() < 0.5) {
        server.mood = 'away';
        for (let times = 0; times < 8; times++) node.act();
        server.compact();
      }
      clock.outside(AWAY_MILLIS, () => (server.mood = 'well'));
    },
  };
}
