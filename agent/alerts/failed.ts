/**
 * Alerts that the agent could make no event of, by an error of its own: they must not keep those behind them from the
 * journal. Each is in the log, and set aside in a file for whoever looks for the cause.
 *
 * Format: NDJSON; `time`, `position` (`<generation>:<offset of its first byte>`), `error`, and `alert` where that can
 * be written, without its payload, which the configuration may keep out of events.
 *
 * Bounded: a file of 1 MiB gets no more. Not promised: that an alert is in the file, on a full disk or after a crash;
 * and that it is there once, since it is read again after a crash.
 */
import { appendFileSync, statSync } from 'node:fs';
import type { Logger } from 'pino';
import { positionText, type Alert, type Position } from '../engine/alert.ts';

const MAX_BYTES = 1 << 20;

export interface FailedAlerts {
  /** @param position In the engine's output. */
  add(position: Position, alert: Alert, error: unknown): void;
}

export function openFailedAlerts(file: string, log: Logger): FailedAlerts {
  return {
    add(place, alert, error) {
      const position = positionText(place);
      log.error(
        { err: error, position, signature: `${alert.gid}:${alert.sid}`, file },
        'no event could be made of an alert; it is set aside',
      );
      try {
        if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) >= MAX_BYTES) return;
        appendFileSync(file, `${lineOf(position, alert, error)}\n`, { mode: 0o600 });
      } catch (reason) {
        log.error({ err: reason, file }, 'an alert could not be set aside');
      }
    },
  };
}

function lineOf(position: string, alert: Alert, error: unknown): string {
  const facts = { time: new Date().toISOString(), position, error: String(error) };
  try {
    return JSON.stringify({ ...facts, alert }, (key, value: unknown) => (key === 'payload' ? undefined : value));
  } catch {
    return JSON.stringify(facts);
  }
}
