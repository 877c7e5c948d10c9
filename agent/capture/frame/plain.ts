/** Most frames: TCP, or UDP that is no tunnel, in IP without options behind Ethernet without tags. Read in no time. */
import { byteAt, uint16 } from '../bytes.ts';
import { Protocol, udpTunnel } from './protocols.ts';

const { ipv4, ipv6, tcp, udp, none } = Protocol;
const ETHERNET_HEADER = 14;

/** Offsets in the buffer. */
export interface Plain {
  ip: number;
  /** Bytes of an address: 4 or 16. */
  size: number;
  source: number;
  destination: number;
  /** Of IP: 6 or 17. */
  protocol: number;
  transport: number;
}

/**
 * @param start Where the frame begins, of which bytes up to `end` were captured.
 * @returns false: it may be anything else, and `plain` means nothing.
 */
export function readPlain(plain: Plain, bytes: Buffer, start: number, end: number): boolean {
  const ip = start + ETHERNET_HEADER;
  const type = uint16(bytes, ip - 2);
  const isIpv4 = type === ipv4;
  const transport = ip + (isIpv4 ? 20 : 40);
  if (transport + 8 > end) return false;
  if (isIpv4) {
    // No options, and no fragment.
    if (byteAt(bytes, ip) !== 0x45 || (uint16(bytes, ip + 6) & 0x3fff) !== 0) return false;
  } else if (type !== ipv6 || byteAt(bytes, ip) >>> 4 !== 6) {
    return false;
  }
  const protocol = byteAt(bytes, ip + (isIpv4 ? 9 : 6));
  if (protocol !== tcp && protocol !== udp) return false;
  if (protocol === udp && udpTunnel(uint16(bytes, transport), uint16(bytes, transport + 2)) !== none) return false;
  plain.ip = ip;
  plain.size = isIpv4 ? 4 : 16;
  plain.source = ip + (isIpv4 ? 12 : 8);
  plain.destination = plain.source + plain.size;
  plain.protocol = protocol;
  plain.transport = transport;
  return true;
}
