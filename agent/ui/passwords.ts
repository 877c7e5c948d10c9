/**
 * Users and passwords of a file: a line each, `<user>:scrypt$<N>$<r>$<p>$<salt>$<hash>` (base64; RFC 7914), as
 * `dpi-agent ui --hash-password` prints it. `#` starts a comment. Read again when it changes.
 *
 * Who is not in the file takes as long as who is. At most two passwords are hashed at once, and each takes 64 MiB.
 */
import { createHmac, randomBytes, scrypt, timingSafeEqual, type ScryptOptions } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import pLimit from 'p-limit';
import { errorCode } from '../files/errors.ts';

const COST = { N: 65_536, r: 8, p: 1 };
const HASH_BYTES = 32;
const AT_ONCE = 2;
const MAX_WAITING = 20;
const MAX_PASSWORD = 1024;
/** Of parameters in the file, so that a line can't take all memory. */
const MAX_MEMORY = 256 << 20;

export interface PasswordFile {
  verify(username: string, password: string): Promise<boolean>;
  /** The same, of who was verified before: does not hash while the user's line is as it was. */
  has(username: string, password: string): Promise<boolean>;
}

/** Too many want in at once. */
export class BusyError extends Error {}

interface Entry {
  line: string;
  N: number;
  r: number;
  p: number;
  salt: Buffer;
  hash: Buffer;
}

/** @throws Error that names the file, and the line that is wrong. */
export async function openPasswordFile(file: string): Promise<PasswordFile> {
  let print = '';
  let users = new Map<string, Entry>();
  const verified = new Map<string, string>();
  const secret = randomBytes(32);
  const hashing = pLimit(AT_ONCE);
  const nobody: Entry = { line: '', ...COST, salt: randomBytes(16), hash: randomBytes(HASH_BYTES) };

  async function read(): Promise<Map<string, Entry>> {
    const { mtimeMs, size, ino } = await stat(file);
    const now = `${mtimeMs} ${size} ${ino}`;
    if (now !== print) {
      users = parse(await readFile(file, 'utf8'), file);
      print = now;
    }
    return users;
  }
  try {
    if ((await read()).size === 0) throw new Error(`${file} has no users: dpi-agent ui --hash-password makes a line`);
  } catch (error) {
    const code = errorCode(error);
    throw code === undefined ? error : new Error(`can't read the password file ${file}: ${code}`, { cause: error });
  }

  async function hashed(password: string, { N, r, p, salt }: Entry): Promise<Buffer> {
    if (hashing.pendingCount >= MAX_WAITING)
      throw new BusyError('too many try to sign in at once: try again in a moment');
    return hashing(() => derive(password, salt, { N, r, p, maxmem: MAX_MEMORY * 2 }));
  }

  function proof(username: string, password: string, { line }: Entry): string {
    return createHmac('sha256', secret)
      .update(JSON.stringify([username, password, line]))
      .digest('hex');
  }

  async function verify(username: string, password: string): Promise<boolean> {
    // A file that is just being replaced, or damaged, keeps what it had.
    const known = (await read().catch(() => users)).get(username);
    const entry = known ?? nobody;
    const right = timingSafeEqual(await hashed(password.slice(0, MAX_PASSWORD), entry), entry.hash);
    if (!right || known === undefined) return false;
    verified.set(username, proof(username, password, known));
    return true;
  }

  return {
    verify,
    async has(username, password) {
      const entry = (await read().catch(() => users)).get(username);
      if (entry === undefined) return false;
      return verified.get(username) === proof(username, password, entry) || verify(username, password);
    },
  };
}

function derive(password: string, salt: Buffer, options: ScryptOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password, salt, HASH_BYTES, options, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}

function parse(whole: string, file: string): Map<string, Entry> {
  const users = new Map<string, Entry>();
  for (const [index, line] of whole.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const match =
      /^([^:\s]{1,128}):scrypt\$(\d{1,7})\$(\d{1,2})\$(\d{1,2})\$([A-Za-z0-9+/=]{16,})\$([A-Za-z0-9+/=]{44})\s*$/.exec(
        line,
      );
    const [, name = '', N = '', r = '', p = '', salt = '', hash = ''] = match ?? [];
    const numbers = { N: Number(N), r: Number(r), p: Number(p) };
    const power = Number.isInteger(Math.log2(numbers.N)) && numbers.N >= 16_384;
    if (match === null || !power || 128 * numbers.N * numbers.r > MAX_MEMORY || numbers.p < 1 || numbers.r < 1) {
      throw new Error(`${file}:${index + 1}: expected <user>:scrypt$… as dpi-agent ui --hash-password prints it`);
    }
    users.set(name, { line, ...numbers, salt: Buffer.from(salt, 'base64'), hash: Buffer.from(hash, 'base64') });
  }
  return users;
}

/** A line of the file. */
export async function passwordLine(username: string, password: string): Promise<string> {
  const salt = randomBytes(16);
  const key = await derive(password, salt, { ...COST, maxmem: MAX_MEMORY });
  const { N, r, p } = COST;
  return `${username}:scrypt$${N}$${r}$${p}$${salt.toString('base64')}$${key.toString('base64')}`;
}
