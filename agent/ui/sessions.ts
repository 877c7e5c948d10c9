/**
 * Who is signed in: a random name in a cookie, the rest in memory. Sessions end after 12 hours, or 2 hours without a
 * request; and with the server.
 */
import { LRUCache } from 'lru-cache';
import { createHash, randomBytes } from 'node:crypto';
import type { Credentials, User } from './access.ts';

const LIFE_MILLIS = 12 * 3_600_000;
const IDLE_MILLIS = 2 * 3_600_000;
const MAX_SESSIONS = 1000;

export interface SignedIn {
  user: User;
  credentials: Credentials;
}

export interface Sessions {
  /** @returns the cookie's value. */
  open(signedIn: SignedIn): string;
  find(cookie: string): SignedIn | undefined;
  close(cookie: string): void;
}

export function createSessions(now: () => number = () => performance.now()): Sessions {
  /** By a digest, so that nobody learns a name from how long it takes to look for it. */
  const sessions = new LRUCache<string, SignedIn & { opened: number; used: number }>({ max: MAX_SESSIONS });
  const keyOf = (cookie: string): string => createHash('sha256').update(cookie).digest('hex');
  return {
    open(signedIn) {
      const cookie = randomBytes(32).toString('base64url');
      sessions.set(keyOf(cookie), { ...signedIn, opened: now(), used: now() });
      return cookie;
    },
    find(cookie) {
      const key = keyOf(cookie);
      const session = sessions.get(key);
      if (session === undefined) return undefined;
      if (now() - session.opened > LIFE_MILLIS || now() - session.used > IDLE_MILLIS) {
        sessions.delete(key);
        return undefined;
      }
      session.used = now();
      return session;
    },
    close(cookie) {
      sessions.delete(keyOf(cookie));
    },
  };
}
