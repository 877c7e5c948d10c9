/** Times as the page shows them: in the browser's zone, or in UTC. */
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

export type Zone = 'local' | 'utc';
let chosen: Zone = 'local';

export function setZone(zone: Zone): void {
  chosen = zone;
}

/** `UTC`, `UTC+1`, `UTC-3:30`: that of a moment, because of summer time. */
export function zoneName(millis: number = Date.now()): string {
  const minutes = -offset(millis);
  if (minutes === 0) return 'UTC';
  const [whole, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  return `UTC${minutes < 0 ? '-' : '+'}${whole}${rest === 0 ? '' : `:${pad(rest)}`}`;
}

/** `14:05:09`, of another day `Nov 24, 14:05:09`, of another year with that. */
export function clock(time: string | number): string {
  const millis = millisOf(time);
  return day(millis) === day(Date.now()) ? hours(millis, true) : moment(millis);
}

/** `Nov 24, 14:05:09` */
export function moment(time: string | number, seconds = true): string {
  const millis = millisOf(time);
  return `${day(millis)}, ${hours(millis, seconds)}`;
}

/** `Nov 24, 14:05:09 UTC+1`; `unknown` of what is no time. */
export function fullMoment(time: string | number): string {
  const millis = millisOf(time);
  return Number.isNaN(millis) ? 'unknown' : `${moment(millis)} ${zoneName(millis)}`;
}

/** `Nov 24`, of another year `Nov 24 2025` */
export function day(time: string | number): string {
  const date = shifted(millisOf(time));
  const year = date.getUTCFullYear();
  const name = `${MONTHS[date.getUTCMonth()] ?? ''} ${date.getUTCDate()}`;
  return year === shifted(Date.now()).getUTCFullYear() ? name : `${name} ${year}`;
}

/** `3 min ago` */
export function ago(timestamp: string): string {
  const seconds = Math.max(0, (Date.now() - Date.parse(timestamp)) / 1000);
  if (seconds < 60) return `${Math.round(seconds)} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} d ago`;
}

const SPANS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 };

/**
 * A time that somebody typed, in the zone of all times: `2026-11-24`, `2026-11-24 14:05`, with seconds, with a zone of
 * its own; `14:05` of today; `2h`, that long ago; `now`.
 */
export function parseMoment(typed: string, now: number = Date.now()): number | undefined {
  const text = typed.trim().replace(/^-/, '');
  if (/^now$/i.test(text)) return now;
  const [, count, unit = ''] = /^(\d{1,6})\s*([smhdw])$/i.exec(text) ?? [];
  if (count !== undefined) return now - Number(count) * (SPANS[unit.toLowerCase()] ?? 0);
  const today = shifted(now).toISOString().slice(0, 10);
  const whole = /^\d{1,2}:\d\d/.test(text) ? `${today} ${text.padStart(5, '0')}` : text;
  const match = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?)\s*(Z|UTC|[+-]\d\d:\d\d)?)?$/i.exec(whole);
  if (match === null) return undefined;
  const [, date = '', clockTime = '00:00', own] = match;
  const millis = Date.parse(`${date}T${clockTime}${own === undefined ? 'Z' : own.replace(/^(?:z|utc)$/i, 'Z')}`);
  if (Number.isNaN(millis)) return undefined;
  // What the zone's clocks are ahead by is that of the moment itself.
  return own === undefined ? millis + offset(millis + offset(millis) * 60_000) * 60_000 : millis;
}

/** As `parseMoment` takes it. */
export function typable(millis: number): string {
  return shifted(millis).toISOString().slice(0, 19).replace('T', ' ');
}

function hours(millis: number, seconds: boolean): string {
  const date = shifted(millis);
  const minutes = `${pad(date.getUTCHours())}:${pad(date.getUTCMinutes())}`;
  return seconds ? `${minutes}:${pad(date.getUTCSeconds())}` : minutes;
}

/** Whose parts in UTC are those of the zone. */
function shifted(millis: number): Date {
  return new Date(millis - offset(millis) * 60_000);
}

/** Minutes, as Date has it: positive in the west. */
function offset(millis: number): number {
  return chosen === 'utc' ? 0 : new Date(millis).getTimezoneOffset();
}

function millisOf(time: string | number): number {
  return typeof time === 'number' ? time : Date.parse(time);
}

function pad(value: number): string {
  return String(value).padStart(2, '0');
}
