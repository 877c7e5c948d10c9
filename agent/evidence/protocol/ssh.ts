/** SSH: banners (RFC 4253, 4.2) and HASSH of both sides (https://github.com/salesforce/hassh). */
import { createHash } from 'node:crypto';
import type { SshFacts } from '../../events/app.ts';
import { cursorOf, untilCut } from './cursor.ts';
import type { Run } from './pieces.ts';
import { filled, short } from './text.ts';

const KEX_INIT = 20;
const COOKIE = 16;
/** Key exchange, host key, then ciphers, MACs and compression, each client to server and back. */
const LISTS = 8;
const MAX_BANNER = 255;
/** A server may send lines before its banner. */
const MAX_BEFORE = 4_096;
const MAX_LIST = 16_384;

interface Hello {
  banner: string;
  lists: string[];
}

export function isSsh(bytes: Buffer): boolean {
  return bytes.toString('latin1', 0, 4) === 'SSH-';
}

export function sshFacts(client: Run | undefined, server: Run | undefined): SshFacts {
  const asked = readHello(client?.bytes);
  const answered = readHello(server?.bytes);
  return filled<SshFacts>({
    client: asked?.banner,
    server: answered?.banner,
    hassh: fingerprint(asked?.lists, [0, 2, 4, 6]),
    hassh_server: fingerprint(answered?.lists, [0, 3, 5, 7]),
  });
}

function readHello(bytes: Buffer | undefined): Hello | undefined {
  if (bytes === undefined) return undefined;
  const head = bytes.toString('latin1', 0, MAX_BEFORE);
  const at = head.startsWith('SSH-') ? 0 : head.indexOf('\nSSH-') + 1;
  if (at === 0 && !head.startsWith('SSH-')) return undefined;
  const feed = bytes.indexOf(0x0a, at);
  const end = feed < 0 ? bytes.length : feed;
  const banner = short(bytes.toString('utf8', at, Math.min(end, at + MAX_BANNER)), MAX_BANNER);
  return { banner, lists: feed < 0 ? [] : readKexInit(bytes.subarray(feed + 1)) };
}

/** Its lists, as far as they are there. */
function readKexInit(bytes: Buffer): string[] {
  const lists: string[] = [];
  untilCut(() => {
    const cursor = cursorOf(bytes);
    cursor.u32();
    cursor.u8();
    if (cursor.u8() !== KEX_INIT) return;
    cursor.take(COOKIE);
    while (lists.length < LISTS) {
      const length = cursor.u32();
      if (length > MAX_LIST) return;
      lists.push(cursor.take(length).toString('latin1'));
    }
  });
  return lists;
}

function fingerprint(lists: readonly string[] | undefined, indices: readonly number[]): string | undefined {
  if (lists === undefined || lists.length < LISTS) return undefined;
  return createHash('md5')
    .update(indices.map((index) => lists[index] ?? '').join(';'))
    .digest('hex');
}
