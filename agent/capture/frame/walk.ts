/** Where a walk through a frame's layers is, and what it has met. All are small integers, which are never boxed. */

/** What a frame may have within: a VLAN tag of its own, a tunnel that engines look into, one that was made opaque. */
export const WITHIN = { tag: 1, tunnel: 2, hidden: 4 } as const;

export interface Walk {
  /** End of the captured bytes. */
  limit: number;
  /** The id that tags get. */
  vlan: number;
  /** The layer that is next, and where it begins. */
  protocol: number;
  offset: number;
  /** Where the packet of IPv6 met last ends. */
  ipv6End: number;
  /** Bits of `WITHIN`. */
  within: number;
}

/** Goes on to a layer that begins `bytes` further on. @returns true: the walk goes on. */
export function goOn(walk: Walk, protocol: number, bytes: number): true {
  walk.protocol = protocol;
  walk.offset += bytes;
  return true;
}
