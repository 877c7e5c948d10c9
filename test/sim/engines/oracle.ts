/**
 * Holds the obligations of lanes that keep their engines running. It knows when each process truly began and ended, and
 * by what it inspects.
 *
 * 21. A lane has one process at a time. After one that ended by itself, or could not begin, the next begins after a
 * pause of 200 ms, twice as long each time, up to 30 s, and the shortest again after a healthy minute.
 * 22. Each end that was not asked for as the lane's own, and each beginning that failed, is in exactly one count.
 * 23. Rules that a lane says it went over to are those that its engine inspects by, or begins with.
 * 24. In the end an engine reads, inspects by the rules that all lanes were left with, and its canary is alive.
 * 25. A lane that is asked to end has ended within 10 s, and no process is left.
 * 26. Each alert of an endpoint's packets is given out once, in order; none of the agent's own is.
 */
import type { EngineRules } from '../../../agent/engine/rules.ts';
import type { LaneStatus } from '../../../agent/lane/status.ts';

const FIRST_MILLIS = 200;
const LAST_MILLIS = 30_000;
const HEALTHY_MILLIS = 60_000;
/** What a lane that ends may take: its engine, 3.5 s, and its last alerts. */
const MAX_ENDING_MILLIS = 10_000;

/** As it truly is. */
export interface ScriptedProcess {
  readonly fifo: string;
  /** Waits for its input to be opened. */
  isWaiting(): boolean;
  isReading(): boolean;
  open(): void;
  /** Its input ended. */
  endInput(): void;
  /** @returns whether it took it. */
  frame(payload: string): boolean;
  packet(number: number): boolean;
  inspectsBy(): EngineRules;
}

export interface EnginesOracle {
  broken(): string | undefined;
  started(lane: string, name: string, process: ScriptedProcess): void;
  notStarted(lane: string): void;
  /** @param how As it truly was. */
  ended(lane: string, name: string, how: 'exited' | 'signal'): void;
  wrote(lane: string, generation: string, text: string): void;
  read(lane: string, generation: string, texts: readonly string[]): void;
  /** A lane is about to begin another process. */
  beginning(lane: string): void;
  /** A lane is told of other rules. */
  told(lane: string): void;
  /** What it has to inspect by from now on. @param says Whether it says that it does. */
  left(lane: string, rules: EngineRules, says: boolean): void;
  /** A process begins to read. */
  opened(lane: string, process: ScriptedProcess): void;
  /** Nothing fails any more, and time has passed. */
  settled(lane: string, rules: EngineRules, status: LaneStatus): void;
  stopped(lane: string, millis: number): void;
  stuck(): void;
  facts(): { processes: number; swaps: number; alerts: number };
}

interface LaneFacts {
  running: { name: string; process: ScriptedProcess; since: number } | undefined;
  ends: number;
  failures: number;
  /** Until the next may begin, by the lane's own pauses; undefined: it may at once. */
  pause: number;
  endedAt: number | undefined;
  wasHealthy: boolean;
  written: string[];
  given: number;
  /** What a process has to begin with; undefined while that changes. */
  owed: EngineRules | undefined;
}

export function createEnginesOracle(now: () => number): EnginesOracle {
  const lanes = new Map<string, LaneFacts>();
  const counts = { processes: 0, swaps: 0, alerts: 0 };
  let broken: string | undefined;

  function fail(obligation: number, message: string): void {
    broken ??= `obligation ${obligation}: ${message}`;
  }

  function factsOf(lane: string): LaneFacts {
    const known = lanes.get(lane);
    if (known !== undefined) return known;
    const made: LaneFacts = {
      running: undefined,
      ends: 0,
      failures: 0,
      pause: FIRST_MILLIS,
      endedAt: undefined,
      wasHealthy: false,
      written: [],
      given: 0,
      owed: undefined,
    };
    lanes.set(lane, made);
    return made;
  }

  return {
    broken: () => broken,
    beginning(lane) {
      const facts = factsOf(lane);
      if (facts.running !== undefined) fail(21, `${lane} begins a process while ${facts.running.name} runs`);
      if (facts.endedAt === undefined) return;
      if (facts.wasHealthy) facts.pause = FIRST_MILLIS;
      const paused = now() - facts.endedAt;
      // One that was replaced is followed at once.
      const isAtOnce = paused < FIRST_MILLIS / 2;
      if (isAtOnce) facts.pause = FIRST_MILLIS;
      else if (Math.abs(paused - facts.pause) > 1)
        fail(21, `${lane} begins after ${paused} ms; the pause is ${facts.pause}`);
      else facts.pause = Math.min(2 * facts.pause, LAST_MILLIS);
      facts.endedAt = undefined;
      facts.wasHealthy = false;
    },
    started(lane, name, process) {
      const facts = factsOf(lane);
      counts.processes += 1;
      if (facts.running !== undefined) fail(21, `${name} begins while ${facts.running.name} runs`);
      facts.running = { name, process, since: now() };
    },
    notStarted(lane) {
      const facts = factsOf(lane);
      facts.failures += 1;
      facts.endedAt = now();
    },
    ended(lane, name) {
      const facts = factsOf(lane);
      if (facts.running?.name !== name) return fail(21, `${name} ends, and did not run`);
      facts.wasHealthy = now() - facts.running.since >= HEALTHY_MILLIS;
      facts.running = undefined;
      facts.ends += 1;
      facts.endedAt = now();
    },
    wrote(lane, generation, text) {
      counts.alerts += 1;
      factsOf(lane).written.push(`${generation} ${text}`);
    },
    read(lane, generation, texts) {
      const facts = factsOf(lane);
      for (const text of texts) {
        const expected = facts.written.filter((line) => line.startsWith(`${generation} `));
        const index = facts.written.indexOf(`${generation} ${text}`);
        if (index < 0)
          fail(26, `${lane} gives out ${JSON.stringify(text)}, which is none of ${expected.length} that are left`);
        else if (facts.written[index] !== expected[0]) fail(26, `${lane} gives out ${text} before ${expected[0]}`);
        facts.written.splice(index, 1);
      }
    },
    told: (lane) => void (factsOf(lane).owed = undefined),
    opened(lane, process) {
      const { owed } = factsOf(lane);
      if (owed !== undefined && process.inspectsBy() !== owed)
        fail(23, `${lane} begins by other rules than it was left with`);
    },
    left(lane, rules, says) {
      const facts = factsOf(lane);
      facts.owed = rules;
      if (!says) return;
      counts.swaps += 1;
      const by = facts.running?.process.isReading() === true ? facts.running.process.inspectsBy() : undefined;
      if (by !== undefined && by !== rules) fail(23, `${lane} says that it inspects by other rules, and does not`);
    },
    settled(lane, rules, { canary, engine }) {
      const facts = factsOf(lane);
      const running = facts.running?.process;
      if (running?.isReading() !== true) fail(24, `no engine of ${lane} reads`);
      else if (running.inspectsBy() !== rules) fail(24, `${lane} inspects by other rules in the end`);
      if (canary.is !== 'alive') fail(24, `the canary of ${lane} is ${canary.is}`);
      const { exited, signal, replaced, not_started: notStarted } = engine.endings;
      const sum = exited + signal + replaced;
      if (sum !== facts.ends || engine.restarts !== facts.ends)
        fail(22, `${lane} counts ${sum} ends and ${engine.restarts} restarts; there were ${facts.ends}`);
      if (notStarted !== facts.failures)
        fail(22, `${lane} counts ${notStarted} failed beginnings; there were ${facts.failures}`);
    },
    stopped(lane, millis) {
      const facts = factsOf(lane);
      if (facts.running !== undefined) fail(25, `${facts.running.name} is left`);
      if (millis > MAX_ENDING_MILLIS) fail(25, `${lane} ended after ${millis} ms`);
      if (facts.written.length > 0)
        fail(26, `${facts.written.length} alerts of ${lane} are not given out: ${facts.written[0]}`);
    },
    stuck: () => fail(25, 'it does not come to an end'),
    facts: () => counts,
  };
}
