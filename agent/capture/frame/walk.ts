/** What is known on a walk through a frame's layers. All are small integers, which are never boxed. */

/** What a frame may have within: a VLAN tag of its own, a tunnel that engines look into, one that was made opaque. */
export const WITHIN = { tag: 1, tunnel: 2, hidden: 4 } as const;

/** In place of an offset: the walk ends. */
export const END = -1;

export interface Walk {
  /** End of the captured bytes. */
  limit: number;
  /** The id that tags get. */
  vlan: number;
  /** The layer that is next. */
  protocol: number;
  /** Where the packet of IPv6 met last ends. */
  ipv6End: number;
  /** Bits of `WITHIN`. */
  within: number;
}

/** The walk goes on to a layer that begins at `offset`. */
export function goOn(walk: Walk, protocol: number, offset: number): number {
  walk.protocol = protocol;
  return offset;
}

/** A byte of the frame. Zero behind its end: short frames are refused where it matters, by `limit`. */
export function byteAt({ limit }: Walk, bytes: Buffer, offset: number): number {
  return offset < limit ? (bytes[offset] ?? 0) : 0;
}

export function uint16(walk: Walk, bytes: Buffer, offset: number): number {
  return (byteAt(walk, bytes, offset) << 8) | byteAt(walk, bytes, offset + 1);
}
