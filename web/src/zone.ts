/** The zone of all times: the browser's, unless somebody chose UTC. */
import { setZone, type Zone } from './time.ts';

const KEY = 'dpi-agent-zone';

function zone(): Zone {
  try {
    return localStorage.getItem(KEY) === 'utc' ? 'utc' : 'local';
  } catch {
    // Storage may be forbidden.
    return 'local';
  }
}

export function applyZone(): void {
  setZone(zone());
}

export function flipZone(): void {
  const next = zone() === 'utc' ? 'local' : 'utc';
  setZone(next);
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // Then it does not last.
  }
}
