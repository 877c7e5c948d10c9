/**
 * Links by which somebody acknowledges one alert without signing in: who sends a message signs it, the page checks it.
 *
 *   <page>/acknowledge?alert=<id>&until=<seconds>&via=<sink>&signature=<HMAC-SHA256 of the three, base64url>
 *
 * Whoever has a link may acknowledge its alert until it ends, and do nothing else. Keys are the lines of a file: the
 * first one signs, all of them are right, so that a key can be replaced while links are on their way.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

const MIN_KEY = 32;
const MAX_KEY = 1024;
const MAX_KEYS = 4;
/** Says what is signed: the same key elsewhere makes no link. */
const PURPOSE = 'dpi-agent acknowledgement 1';
const VIA = /^[a-z0-9-]{1,63}$/;
const SIGNATURE = /^[A-Za-z0-9_-]{43}$/;

/** What a link allows. */
export interface Acknowledgement {
  alert: string;
  /** Until when, in seconds since the Unix epoch. */
  until: number;
  /** The sink whose message has the link. */
  via: string;
}

export type Checked = { is: 'valid'; link: Acknowledgement } | { is: 'expired' | 'wrong' };

/** @param file Named in errors; the keys never are. @throws Error that says what is wrong with the file. */
export function readKeys(text: string, file: string): string[] {
  const keys = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  if (keys.length === 0 || keys.length > MAX_KEYS)
    throw new Error(`${file}: expected 1 to ${MAX_KEYS} lines with keys`);
  if (keys.some(({ length }) => length < MIN_KEY || length > MAX_KEY)) {
    throw new Error(`${file}: a key has ${MIN_KEY} to ${MAX_KEY} characters, as "openssl rand -hex 32" prints it`);
  }
  return keys;
}

/** @param publicUrl Of the page. */
export function acknowledgeUrl(publicUrl: string, link: Acknowledgement, key: string): string {
  const url = new URL(publicUrl);
  url.pathname = `${url.pathname.replace(/\/$/, '')}/acknowledge`;
  const { alert, until, via } = link;
  url.search = new URLSearchParams({ alert, until: String(until), via, signature: sign(link, key) }).toString();
  return url.href;
}

/** @param asked Parameters of a request: anybody's. @param now Milliseconds since the Unix epoch. */
export function checkLink(asked: Readonly<Record<string, unknown>>, keys: readonly string[], now: number): Checked {
  const { alert, until, via, signature } = asked;
  if (typeof alert !== 'string' || alert.length > 128 || typeof via !== 'string' || !VIA.test(via))
    return { is: 'wrong' };
  if (typeof until !== 'string' || !/^\d{1,12}$/.test(until)) return { is: 'wrong' };
  if (typeof signature !== 'string' || !SIGNATURE.test(signature)) return { is: 'wrong' };
  const link = { alert, until: Number(until), via };
  const given = Buffer.from(signature, 'base64url');
  // All of them, so that time does not tell which.
  const right = keys.filter((key) => timingSafeEqual(given, Buffer.from(sign(link, key), 'base64url')));
  if (right.length === 0) return { is: 'wrong' };
  return link.until * 1000 > now ? { is: 'valid', link } : { is: 'expired' };
}

function sign({ alert, until, via }: Acknowledgement, key: string): string {
  return createHmac('sha256', key)
    .update(JSON.stringify([PURPOSE, alert, until, via]))
    .digest('base64url');
}
