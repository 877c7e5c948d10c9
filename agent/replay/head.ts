/** What a capture file is, by its first bytes. */
import { open, stat } from 'node:fs/promises';
import { kindOf, MAGIC_BYTES } from '../files/magic.ts';
import { createPcapParser } from './pcap-file.ts';

/** Stands for standard input, whatever it is. */
export const STDIN = '/dev/stdin';

/** @throws Error when it can't be read. */
export async function headOf(
  file: string,
): Promise<{ kind: 'capture' | 'gzip'; size: number } | { kind: 'not-pcap'; reason: string }> {
  const handle = await open(file);
  try {
    const { size } = await stat(file);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0);
    const head = buffer.subarray(0, bytesRead);
    const parser = createPcapParser(() => undefined);
    parser.push(head);
    const outcome = parser.end();
    if (outcome.kind === 'not-pcap') return named(outcome, head);
    return { kind: outcome.kind === 'gzip' ? 'gzip' : 'capture', size };
  } finally {
    await handle.close();
  }
}

/** A refusal with what the file is, as more of its bytes tell it: a parser looks at four. */
export function named<T extends { reason: string }>(outcome: T, head: Buffer): T {
  const kind = kindOf(head);
  return kind === undefined ? outcome : { ...outcome, reason: `${kind}, not a capture file` };
}
