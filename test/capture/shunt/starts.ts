/** How SSH, QUIC and WireGuard begin, made by hand. */
import { noise } from './support.ts';

export const SSH_KEXINIT = 20;
export const SSH_NEWKEYS = 21;

/** A packet of SSH before its new keys, with so many bytes of content. RFC 4253, 6: padded to a multiple of 8. */
export function clearPacket(message: number, length: number): Buffer {
  const padding = 4 + ((8 - ((4 + 1 + 1 + length + 4) % 8)) % 8);
  const head = Buffer.from([0, 0, 0, 0, padding, message]);
  head.writeUInt32BE(2 + length + padding, 0);
  return Buffer.concat([head, noise(length + padding, message + length)]);
}

/** RFC 9000, 17.2.2: a datagram with an Initial packet, from the end that has the second connection id. */
export function quicInitial(to: Buffer, from: Buffer, { version = 1, first = 0xc0 } = {}): Buffer {
  const head = Buffer.from([first, 0, 0, 0, 0]);
  head.writeUInt32BE(version, 1);
  const ids = Buffer.concat([Buffer.from([to.length]), to, Buffer.from([from.length]), from]);
  return Buffer.concat([head, ids, noise(1200 - head.length - ids.length)]);
}

export function wireguardInitiation(sender: number): Buffer {
  return wireguardMessage(1, [sender], 148);
}

export function wireguardResponse(sender: number, receiver: number): Buffer {
  return wireguardMessage(2, [sender, receiver], 92);
}

function wireguardMessage(type: number, indices: number[], length: number): Buffer {
  const bytes = Buffer.concat([Buffer.from([type, 0, 0, 0, ...indices.flatMap(() => [0, 0, 0, 0])]), noise(length)]);
  indices.forEach((index, at) => bytes.writeUInt32BE(index, 4 + 4 * at));
  return bytes.subarray(0, length);
}
