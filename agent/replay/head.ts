/** What a capture file is, by its first bytes. */
import { open, stat } from 'node:fs/promises';
import { createPcapParser } from './pcap-file.ts';

/** Stands for standard input, whatever it is. */
export const STDIN = '/dev/stdin';
const HEAD_BYTES = 512;

/** @throws Error when it can't be read. */
export async function headOf(
  file: string,
): Promise<{ kind: 'capture' | 'gzip'; size: number } | { kind: 'not-pcap'; reason: string }> {
  const handle = await open(file);
  try {
    const { size } = await stat(file);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
    const parser = createPcapParser(() => undefined);
    parser.push(buffer.subarray(0, bytesRead));
    const outcome = parser.end();
    if (outcome.kind === 'not-pcap') return outcome;
    return { kind: outcome.kind === 'gzip' ? 'gzip' : 'capture', size };
  } finally {
    await handle.close();
  }
}
