/**
 * What is looked at again and again while an agent runs: the clock, the directions in which endpoints are seen, the
 * ledger of packets, and what the container's limits take. Each check owns its timer, which keeps no process alive, and
 * says in the log what it finds.
 */
import type { Logger } from 'pino';
import { lostOf, type Counters } from '../capture/protocol.ts';
import { createCoverage, type Coverage, type Covered } from './coverage.ts';
import { createLedger, type EngineCount } from './ledger.ts';
import { readLimits, type LimitsSeen } from './limits.ts';

/** A difference between the wall clock and the monotonic one that is no drift. */
const CLOCK_STEP_MILLIS = 500;
/** Often enough that what the clocks drift apart is no step. */
const CLOCK_MILLIS = 10_000;
/** How often the directions that endpoints are seen to use are looked at. */
const COVERAGE_MILLIS = 5_000;
const LEDGER_MILLIS = 5_000;
/** Periods of a CPU limit are 100 ms: some dozens lie between. */
const LIMITS_MILLIS = 5_000;
const PROBLEM_MILLIS = 60_000;
const THROTTLED = "packets are lost while the container's CPU limit stops the agent: it needs a higher one";

export interface ClockCheck {
  /** Packets bear the time of the wall clock, and so do leases: whoever compares them looks first. */
  check(): void;
  stop(): void;
}

/**
 * @param moved The wall clock was set, at most so many microseconds ago. Called again at the next check when it throws.
 */
export function watchClock(moved: (agoMicros: number) => void, log: Logger): ClockCheck {
  /** The wall clock ahead of the monotonic one, when last looked at. */
  let ahead = Date.now() - performance.now();
  let checkedAt = performance.now();

  function check(): void {
    const now = Date.now() - performance.now();
    if (Math.abs(now - ahead) > CLOCK_STEP_MILLIS) {
      log.warn({ seconds: Math.round((now - ahead) / 1000) }, 'the clock was set');
      try {
        moved(1000 * (performance.now() - checkedAt));
      } catch (error) {
        log.error({ err: error }, 'what the clock moved is not on disk; tried again');
        return;
      }
    }
    ahead = now;
    checkedAt = performance.now();
  }

  const timer = setInterval(check, CLOCK_MILLIS).unref();
  return { check, stop: () => clearInterval(timer) };
}

export interface CoverageCheck {
  of: Coverage['of'];
  forget: Coverage['forget'];
  stop(): void;
}

export interface CoverageCheckOptions {
  windowMillis: number;
  endpoints: () => readonly (Covered & { endpoint: { interface: string } })[];
  /** Endpoints are one-way from now on, or no longer. */
  onChange?: () => void;
  log: Logger;
}

export function watchCoverage({ windowMillis, endpoints, onChange, log }: CoverageCheckOptions): CoverageCheck {
  const coverage = createCoverage(windowMillis);

  function check(): void {
    const covered = endpoints();
    const changes = coverage.update(covered);
    for (const { id, oneWay } of changes) {
      const device = covered.find(({ endpoint }) => endpoint.id === id)?.endpoint.interface;
      if (oneWay === undefined) log.info({ endpoint: id, interface: device }, 'both directions are seen again');
      else log.warn({ endpoint: id, interface: device, oneWay }, 'only one direction is seen');
    }
    if (changes.length > 0) onChange?.();
  }

  const timer = setInterval(check, Math.min(COVERAGE_MILLIS, windowMillis / 4)).unref();
  return {
    of: (endpointId) => coverage.of(endpointId),
    forget: (endpointId) => coverage.forget(endpointId),
    stop: () => clearInterval(timer),
  };
}

export interface LedgerCheck {
  /** Packets that are neither inspected, nor counted as dropped, nor on their way, by lane. */
  unaccounted: () => ReadonlyMap<string, number>;
  stop(): void;
}

export interface LedgerCheckOptions {
  endpoints: () => readonly { endpoint: { id: string }; lane: string; counters: Counters }[];
  engines: () => EngineCount[];
  log: Logger;
}

export function watchLedger({ endpoints, engines, log }: LedgerCheckOptions): LedgerCheck {
  const ledger = createLedger((lane, side, packets) => {
    if (packets > 0) log.error({ lane, side, packets }, 'packets are unaccounted for');
    else log.info({ lane, side }, 'packets are accounted for again');
  });

  function check(): void {
    const counts = endpoints().map(({ endpoint: { id }, lane, counters }) => ({
      id,
      lane,
      received: counters.received,
      accounted: counters.forwarded + counters.shunted + counters.unsupported + lostOf(counters),
    }));
    ledger.check(performance.now(), counts, engines());
  }

  const timer = setInterval(check, LEDGER_MILLIS).unref();
  return { unaccounted: () => ledger.unaccounted(), stop: () => clearInterval(timer) };
}

/** What the limits of the container took, and what was lost meanwhile. */
export interface Limited extends LimitsSeen {
  /** Packets that were lost in spans of 5 s in which the CPU limit stopped the container. */
  lostWhileThrottled: number;
  /** Set while this happens, and for a minute after. */
  problem?: string;
}

export interface LimitsCheck {
  limited: () => Limited;
  stop(): void;
}

export interface LimitsCheckOptions {
  endpoints: () => readonly { counters: Counters }[];
  log: Logger;
  read?: () => LimitsSeen;
}

export function watchLimits({ endpoints, log, read = readLimits }: LimitsCheckOptions): LimitsCheck {
  const lost = (): number => endpoints().reduce((sum, { counters }) => sum + lostOf(counters), 0);
  let seen = read();
  let lostBefore = lost();
  let lostWhileThrottled = 0;
  /** On the monotonic clock. */
  let lastAt = -Infinity;
  const isProblem = (): boolean => performance.now() - lastAt < PROBLEM_MILLIS;

  function check(): void {
    const before = seen;
    seen = read();
    const throttled = (seen.cpu?.throttled ?? 0) - (before.cpu?.throttled ?? 0);
    const now = lost();
    // Endpoints that went took their numbers with them.
    const packets = throttled > 0 ? Math.max(0, now - lostBefore) : 0;
    lostBefore = now;
    if (packets === 0) return;
    if (!isProblem()) log.warn({ periods: throttled, packets }, THROTTLED);
    lostWhileThrottled += packets;
    lastAt = performance.now();
  }

  const timer = setInterval(check, LIMITS_MILLIS).unref();
  return {
    limited: () => ({ ...seen, lostWhileThrottled, ...(isProblem() ? { problem: THROTTLED } : {}) }),
    stop: () => clearInterval(timer),
  };
}
