/** What differs between two configurations, and which of it a running agent takes over. */
import { isDeepStrictEqual } from 'node:util';
import { isRecord } from '../files/record.ts';
import type { Config } from './schema.ts';

/** Keys that only other commands read: `dpi-agent ui`, `dpi-agent rule-server`. */
const OF_OTHERS = ['ui', 'ruleServing'];

/** Keys whose values differ, as `capture.ringSize`; lists are compared as wholes. */
export function changedKeys(before: Config, after: Config): string[] {
  return keysOf(before, after, '');
}

function keysOf(before: unknown, after: unknown, key: string): string[] {
  if (isDeepStrictEqual(before, after)) return [];
  if (!isRecord(before) || !isRecord(after)) return [key];
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return names.flatMap((name) => keysOf(before[name], after[name], key === '' ? name : `${key}.${name}`));
}

/** The configuration that an agent which runs with `running` can have without a restart when `next` is wanted. */
export function takeOver(running: Config, next: Config): Config {
  const { sinks, ui, lanes, logLevel, alerts } = next;
  const { burst, ratePerSecond, policy } = alerts;
  const { policy: _, ...others } = running.alerts;
  return {
    ...running,
    sinks,
    ui,
    lanes,
    logLevel,
    alerts: { ...others, burst, ratePerSecond, ...(policy === undefined ? {} : { policy }) },
  };
}

/** Keys of `next` that wait for a restart of an agent which runs with `running`. */
export function waitingKeys(running: Config, next: Config): string[] {
  return changedKeys(running, next).filter((key) => !OF_OTHERS.includes(key.split('.')[0] ?? ''));
}
