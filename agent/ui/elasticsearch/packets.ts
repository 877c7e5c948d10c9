/** Capture files of alerts as agents of all nodes sent them, in an index of their own. */
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import type { AlertRow } from '../api.ts';
import { fields, text } from '../row.ts';
import type { AlertIndex } from './alert-index.ts';

/** Of one, unpacked. Agents send 4 MiB of packets at most, and their headers. */
const MAX_FILE_BYTES = 32 << 20;
const unpack = promisify(gunzip);

/** @returns undefined where there is none. @throws SourceError. Error where it is damaged. */
export async function findPackets(
  { packets, search }: AlertIndex,
  { id, resource }: Pick<AlertRow, 'id' | 'resource'>,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  // Packets of another resource than the alert's are none of its.
  const filter = [{ ids: { values: [id] } }, { term: { origin: `dpi.${resource}` } }];
  const answer = await search({ index: packets, size: 1, query: { bool: { filter } }, _source: ['pcapng'] }, signal);
  const content = text(fields(answer.hits.hits[0]?._source)['pcapng']);
  if (content === '') return undefined;
  return unpack(Buffer.from(content, 'base64'), { maxOutputLength: MAX_FILE_BYTES });
}
