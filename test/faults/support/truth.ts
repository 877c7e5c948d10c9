/**
 * What the engines wrote, kept and read without any of the agent's code: the only truth that the campaign compares
 * with.
 *
 * Every file in a generation's output folder is opened as soon as it is there, so that its bytes are still there when
 * the agent has deleted it. The files of a generation, in the order in which they appeared, are one stream; an alert is
 * known by its line's offset there.
 */
import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Much shorter than the agent needs to read, journal and delete a file. */
const POLL_MILLIS = 10;
const OWN_VLAN = 4094;

export interface Written {
  /** `<generation>:<offset>` of every intact alert. */
  positions: Set<string>;
  /** Lines that are no JSON object. */
  broken: number;
  generations: number;
  /** Files, of which all but one of each generation were rotated. */
  files: number;
}

export interface Truth {
  read(): Written;
  close(): void;
}

export function watchEngines(stateDirectory: string): Truth {
  const lane = join(stateDirectory, 'lanes', 'lane0');
  /** Descriptors by generation and inode; a Map keeps the order. */
  const generations = new Map<string, Map<number, number>>();

  function look(): void {
    for (const generation of list(lane)) {
      const output = join(lane, generation, 'output');
      for (const name of list(output)) {
        if (!/^(alert_json\.txt|eve\.json)/.test(name)) continue;
        const files = generations.get(generation) ?? new Map<number, number>();
        generations.set(generation, files);
        try {
          if (files.has(statSync(join(output, name)).ino)) continue;
          const descriptor = openSync(join(output, name), constants.O_RDONLY | constants.O_NOFOLLOW);
          const { ino } = fstatSync(descriptor);
          if (files.has(ino)) closeSync(descriptor);
          else files.set(ino, descriptor);
        } catch {
          // Renamed meanwhile: found under its new name the next time.
        }
      }
    }
  }
  const timer = setInterval(look, POLL_MILLIS);

  return {
    read() {
      look();
      const written: Written = { positions: new Set(), broken: 0, generations: generations.size, files: 0 };
      for (const [generation, files] of generations) {
        written.files += files.size;
        const stream = Buffer.concat([...files.values()].map(readWhole));
        for (let start = 0; start < stream.length;) {
          const found = stream.indexOf('\n', start);
          const end = found < 0 ? stream.length : found;
          const line = stream.toString('latin1', start, end);
          const object = line.trim() === '' ? {} : parse(line);
          if (object === undefined) written.broken++;
          else if (isAlert(object)) written.positions.add(`${generation}:${start}`);
          start = end + 1;
        }
      }
      return written;
    },
    close() {
      clearInterval(timer);
      for (const files of generations.values()) for (const descriptor of files.values()) closeSync(descriptor);
      generations.clear();
    },
  };
}

/**
 * An alert of a pod's packet: the agent's own frames have a VLAN id that no pod has, and their alerts are not for the
 * journal.
 */
function isAlert(object: Record<string, unknown>): boolean {
  const [vlan] = [object['vlan']].flat();
  return ('sid' in object || object['event_type'] === 'alert') && vlan !== OWN_VLAN;
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    return [];
  }
}

function readWhole(descriptor: number): Buffer {
  const bytes = Buffer.alloc(fstatSync(descriptor).size);
  return bytes.subarray(0, readSync(descriptor, bytes, 0, bytes.length, 0));
}

function parse(line: string): Record<string, unknown> | undefined {
  try {
    // Snort escapes neither control characters nor, in the rule's text, quotes.
    const repaired = line
      .replace(/"msg" : "(.*?)"(?=, "[a-z0-9_]+" : | \})/, (_, text: string) => `"msg" : ${JSON.stringify(text)}`)
      // eslint-disable-next-line no-control-regex
      .replace(/[\x00-\x1f]/g, ' ');
    const value: unknown = JSON.parse(repaired);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
