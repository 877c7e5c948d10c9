/** Handshake messages in the records of TLS (RFC 8446, 5.1). */
import { cursorOf, untilCut } from './cursor.ts';
import type { Run } from './pieces.ts';

export interface Handshake {
  type: number;
  body: Buffer;
  /** Whether all of it is there. */
  isWhole: boolean;
}

export interface Flight {
  handshakes: Handshake[];
  /** The first alert that can be read. */
  alert?: number;
}

const HANDSHAKE = 22;
const ALERT = 21;
const MAX_HANDSHAKE_BYTES = 256 << 10;
const MAX_HANDSHAKES = 64;
const MAX_RECORDS = 1_024;

export function isTls(bytes: Buffer): boolean {
  const [type, major, minor] = bytes;
  return (type === HANDSHAKE || type === ALERT) && major === 3 && minor !== undefined && minor <= 4;
}

/** What one side said in clear text. Encrypted handshakes are records like others, and end it. */
export function readFlight(run: Run | undefined): Flight {
  const parts: Buffer[] = [];
  const flight: Flight = { handshakes: [] };
  const cursor = cursorOf((run?.bytes ?? Buffer.alloc(0)).subarray(0, MAX_HANDSHAKE_BYTES));
  untilCut(() => {
    for (let records = 0; records < MAX_RECORDS && cursor.left > 0; records++) {
      const type = cursor.u8();
      if (cursor.u16() >>> 8 !== 3) return;
      const length = cursor.u16();
      const content = cursor.take(Math.min(length, cursor.left));
      if (type === ALERT && length === 2 && content.length === 2) {
        flight.alert = content.readUInt8(1);
        return;
      }
      // After the change of cipher all is encrypted.
      if (type !== HANDSHAKE) return;
      parts.push(content);
    }
  });
  flight.handshakes = readHandshakes(Buffer.concat(parts));
  return flight;
}

export function readHandshakes(bytes: Buffer): Handshake[] {
  const handshakes: Handshake[] = [];
  const cursor = cursorOf(bytes);
  untilCut(() => {
    while (cursor.left > 0 && handshakes.length < MAX_HANDSHAKES) {
      const type = cursor.u8();
      const length = cursor.u24();
      const body = cursor.take(Math.min(length, cursor.left));
      handshakes.push({ type, body, isWhole: body.length === length });
    }
  });
  return handshakes;
}
