/**
 * Which files an engine inspects together.
 *
 * A file is inspected alone where its packets, beside those of others, would be others than they are: a tag of ours
 * around VLAN tags is one layer more than Suricata decodes, and tags within get our id; Suricata's flows in a tunnel
 * have none of the tags around it; and an engine can't hold all times. The rest shares an engine, which is not started
 * for each of them: each file has a VLAN id of its own there.
 */
import { stat } from 'node:fs/promises';
import { GROWTH, tagFrame, type Found } from '../capture/frame.ts';
import { linkTypeFromDlt } from '../capture/frame/link.ts';
import { readChunks } from './chunks.ts';
import { STDIN } from './head.ts';
import { createPcapParser, MAX_CAPTURED_BYTES, type OnPacket } from './pcap-file.ts';
import { isOrdinary } from './times.ts';

/** Files of one engine, by their indices, in order. */
export interface Run {
  files: readonly number[];
  /** Each file's packets bear a tag. */
  tagged: boolean;
}

const MOST_GROWTH = Math.max(...Object.values(GROWTH));
const ANY_VLAN = 1;

/** Reads each of several files once, as far as it takes to know. Those that share an engine come first. */
export async function planRuns(files: readonly string[], stop: AbortSignal): Promise<Run[]> {
  const indices = files.map((_, index) => index);
  const alone = new Set<number>();
  if (files.length > 1)
    for (const [index, file] of files.entries()) if (await standsAlone(file, stop)) alone.add(index);
  const together = indices.filter((index) => !alone.has(index));
  return together.length > 1 ? [{ files: together, tagged: true }, ...[...alone].map(only)] : indices.map(only);
}

function only(index: number): Run {
  return { files: [index], tagged: false };
}

/** Whether a file needs an engine of its own. Also true of what can be read only once. */
async function standsAlone(file: string, stop: AbortSignal): Promise<boolean> {
  if (file === STDIN || !(await isFile(file))) return true;
  const look = createLook();
  const parser = createPcapParser(look.add);
  try {
    for await (const chunk of await readChunks(file, stop)) if (!parser.push(chunk) || look.found()) break;
  } catch {
    // It is said when its turn comes.
  }
  return look.found();
}

async function isFile(file: string): Promise<boolean> {
  try {
    return (await stat(file)).isFile();
  } catch {
    return false;
  }
}

function createLook(): { add: OnPacket; found: () => boolean } {
  const scratch = Buffer.allocUnsafeSlow(MOST_GROWTH + MAX_CAPTURED_BYTES);
  const found: Found = { within: 0 };
  let isFound = false;

  function add(...[seconds, , captured, , dlt, buffer, start]: Parameters<OnPacket>): void {
    if (isFound) return;
    const link = linkTypeFromDlt(dlt);
    buffer.copy(scratch, MOST_GROWTH, start, start + captured);
    isFound =
      !isOrdinary(seconds) ||
      link === undefined ||
      tagFrame(scratch, MOST_GROWTH, captured, link, ANY_VLAN, found) < 0 ||
      found.within !== 0;
  }

  return { add, found: () => isFound };
}
