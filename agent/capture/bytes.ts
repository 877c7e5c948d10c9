/** Numbers in a frame, big-endian. Behind the buffer's end there are zeros. */

export function byteAt(bytes: Buffer, at: number): number {
  return bytes[at] ?? 0;
}

export function uint16(bytes: Buffer, at: number): number {
  return (byteAt(bytes, at) << 8) | byteAt(bytes, at + 1);
}

/** With a sign: such a number is never boxed. Differences of sequence numbers (RFC 9293, 3.4) need it anyway. */
export function int32(bytes: Buffer, at: number): number {
  return (
    (byteAt(bytes, at) << 24) | (byteAt(bytes, at + 1) << 16) | (byteAt(bytes, at + 2) << 8) | byteAt(bytes, at + 3)
  );
}

export function putUint16(bytes: Buffer, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function putInt32(bytes: Buffer, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}
