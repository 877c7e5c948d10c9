/** What packets are wrapped in: tunnels, VLAN stacks and link layers, by name, for tests that go through them all. */
import {
  CLIENT_MAC,
  ethernet,
  ETHERTYPE,
  ipPacket,
  LINKTYPE,
  macBytes,
  PROTOCOL,
  tcpConversation,
  udpPacket,
  type Frame,
} from './packets.ts';

const OUTER4 = { source: '172.16.0.1', destination: '172.16.0.2' };
const OUTER6 = { source: 'fd16::1', destination: 'fd16::2' };

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const behind = (header: string, payload: Buffer): Buffer => Buffer.concat([hex(header), payload]);
const isV6 = (packet: Buffer): boolean => packet.readUInt8(0) >> 4 === 6;
const typeOf = (packet: Buffer): string => (isV6(packet) ? '86dd' : '0800');
const pppOf = (packet: Buffer): string => (isV6(packet) ? '0057' : '0021');
const inIp = (packet: Buffer): number => (isV6(packet) ? PROTOCOL.ipv6 : 4);
const udp = (port: number, payload: Buffer, ends = OUTER4): Buffer =>
  udpPacket({ ...ends, sourcePort: 40_000, destinationPort: port, payload });
const length16 = (payload: Buffer): string => payload.length.toString(16).padStart(4, '0');

/** An IP packet within another one; or, with an EtherType of its own, what an Ethernet frame holds. */
export type Tunnel = (packet: Buffer) => Buffer;

export const TUNNELS: Readonly<Record<string, Tunnel>> = {
  none: (packet) => packet,
  GRE: (packet) => ipPacket({ ...OUTER4, protocol: PROTOCOL.gre }, behind(`0000 ${typeOf(packet)}`, packet)),
  'GRE with a key': (packet) =>
    ipPacket({ ...OUTER4, protocol: PROTOCOL.gre }, behind(`2000 ${typeOf(packet)} 00000007`, packet)),
  'GRE over IPv6': (packet) =>
    ipPacket({ ...OUTER6, protocol: PROTOCOL.gre }, behind(`0000 ${typeOf(packet)}`, packet)),
  'GRE of Ethernet': (packet) => ipPacket({ ...OUTER4, protocol: PROTOCOL.gre }, behind('0000 6558', ethernet(packet))),
  'IP in IPv4': (packet) => ipPacket({ ...OUTER4, protocol: inIp(packet) }, packet),
  'IP in IPv6': (packet) => ipPacket({ ...OUTER6, protocol: inIp(packet) }, packet),
  VXLAN: (packet) => udp(4789, behind('08000000 00002a00', ethernet(packet))),
  'VXLAN over IPv6': (packet) => udp(4789, behind('08000000 00002a00', ethernet(packet)), OUTER6),
  'VXLAN of a tag': (packet) => udp(4789, behind('08000000 00002a00', ethernet(packet, { vlans: [30] }))),
  Geneve: (packet) => udp(6081, behind('0000 6558 00002a00', ethernet(packet))),
  'Geneve with an option': (packet) => udp(6081, behind('0200 6558 00002a00 0102 0301 deadbeef', ethernet(packet))),
  'GTP-U': (packet) => udp(2152, behind(`30ff ${length16(packet)} 00000001`, packet)),
  Teredo: (packet) => udp(3544, packet),
  'GRE in IPv4 in IPv4': (packet) => {
    const gre = ipPacket({ ...OUTER4, protocol: PROTOCOL.gre }, behind(`0000 ${typeOf(packet)}`, packet));
    return ipPacket({ source: '172.17.0.1', destination: '172.17.0.2', protocol: 4 }, gre);
  },
};

/** The outermost tag first. */
export const VLAN_STACKS: Readonly<Record<string, (number | { id: number; tpid: number })[]>> = {
  'no tag': [],
  'one tag': [10],
  'two tags': [{ id: 20, tpid: ETHERTYPE.qinq }, 10],
  'two tags of one kind': [20, 10],
  'three tags': [{ id: 30, tpid: ETHERTYPE.qinq }, 20, 10],
  'four tags': [40, 30, 20, 10],
};

export interface LinkLayer {
  linkType: number;
  /** Undefined: it holds no such packet. */
  frame: (packet: Buffer) => Buffer | undefined;
}

const SLL = `0000 0001 0006 ${macBytes(CLIENT_MAC).toString('hex')} 0000`;
const only = (version: 4 | 6) => (packet: Buffer) => (isV6(packet) === (version === 6) ? packet : undefined);

/** Those that hold IP packets; which of them an engine reads by itself differs. */
export const LINK_LAYERS: Readonly<Record<string, LinkLayer>> = {
  Ethernet: { linkType: LINKTYPE.ethernet, frame: (packet) => ethernet(packet) },
  'MPLS in Ethernet': {
    linkType: LINKTYPE.ethernet,
    frame: (packet) => ethernet(behind('0006 4140', packet), { type: 0x8847 }),
  },
  'PPPoE in Ethernet': {
    linkType: LINKTYPE.ethernet,
    frame: (packet) => ethernet(pppoe(packet), { type: 0x8864 }),
  },
  raw: { linkType: 101, frame: (packet) => packet },
  'raw of BSD': { linkType: 12, frame: (packet) => packet },
  'raw IPv4': { linkType: 228, frame: only(4) },
  'raw IPv6': { linkType: 229, frame: only(6) },
  null: { linkType: LINKTYPE.null, frame: (packet) => behind(isV6(packet) ? '1e000000' : '02000000', packet) },
  loop: { linkType: LINKTYPE.loop, frame: (packet) => behind(isV6(packet) ? '0000001e' : '00000002', packet) },
  'Linux cooked': { linkType: LINKTYPE.linuxSll, frame: (packet) => behind(SLL + typeOf(packet), packet) },
  'Linux cooked 2': {
    linkType: LINKTYPE.linuxSll2,
    frame: (packet) => behind(`${typeOf(packet)} 0000 00000002 0001 00 06 020000000001 0000`, packet),
  },
  PPP: { linkType: 9, frame: (packet) => behind(`ff03 ${pppOf(packet)}`, packet) },
  'PPP without an address': { linkType: 9, frame: (packet) => behind(pppOf(packet), packet) },
  'PPP in HDLC': { linkType: 50, frame: (packet) => behind(`ff03 ${pppOf(packet)}`, packet) },
  "Cisco's HDLC": { linkType: 104, frame: (packet) => behind(`0f00 ${typeOf(packet)}`, packet) },
  PPPoE: { linkType: 51, frame: pppoe },
};

function pppoe(packet: Buffer): Buffer {
  const payload = behind(pppOf(packet), packet);
  return behind(`1100 0001 ${length16(payload)}`, payload);
}

/** The IP packets of a TCP conversation, in which the client says `text`. */
export function ipConversation(text: string, ends: { client: string; server: string; clientPort: number }): Buffer[] {
  return tcpConversation({ ...ends, exchange: [{ from: 'client', data: text }] }).map(({ data }) => data.subarray(14));
}

/** A millisecond apart. */
export function framesOf(data: readonly Buffer[], start: number): Frame[] {
  return data.map((bytes, index) => ({ timeMicros: start + index * 1000, data: bytes }));
}

export function endsOf(version: 4 | 6, clientPort: number): { client: string; server: string; clientPort: number } {
  return version === 6
    ? { client: 'fd00::1', server: 'fd00::2', clientPort }
    : { client: '10.0.0.1', server: '10.0.0.2', clientPort };
}
