/** Datagrams: QUIC and WireGuard in UDP, and ESP, also in UDP. */
import { int32, uint16 } from '../bytes.ts';
import { ESP_PACKETS, ESP_PORT, ESP_SAMPLE, isEspClear } from './esp.ts';
import { countCiphertext, IPSEC, LOST, QUIC, resetFlow, WIREGUARD, type Direction, type Flow } from './flow.ts';
import { findFlow, insertFlow, ownEnd } from './flows.ts';
import { ESP, UDP, type Packet } from './packet.ts';
import { isInitial, isQuicData, mayBeQuic, QUIC_SAMPLE } from './quic.ts';
import { isSilent, shunted, type State, type Verdict } from './state.ts';
import { AT_BEGINNING, looksClear } from './text.ts';
import { isHandshake, isWireguardData, mayBeWireguard, WIREGUARD_SAMPLE } from './wireguard.ts';

/** After so long a silence, datagrams between the same ports are another flow. WireGuard's keys live as long. */
const IDLE_SECONDS = 180;
/** After so long without a handshake, a refused flow may begin anew: no echo is as late. */
const REFUSED_SECONDS = 30;

export function judgeDatagram(state: State, bytes: Buffer): Verdict {
  const { flows, packet, vlan, seconds } = state;
  if (!mayBeSecret(packet, bytes)) return 'forward';
  let flow = findFlow(flows, bytes, packet, vlan);
  if (flow === undefined || isOver(packet, flow, bytes, seconds)) {
    const protocol = startOf(packet, bytes);
    if (protocol < 0) return 'forward';
    flow ??= insertFlow(flows, bytes, packet, vlan);
    resetFlow(flow, protocol, seconds);
  }
  flow.seen = seconds;
  const own = ownEnd(flows, flow);
  if (isBulk(state, flow, own, bytes) && !isSilent(state, flow)) return shunted(state, flow.protocol);
  flow.forwarded = seconds;
  return 'forward';
}

/** Whether it can be of a protocol that is looked for. ESP in UDP is treated as ESP from then on. */
function mayBeSecret(packet: Packet, bytes: Buffer): boolean {
  const { transport, payload, end } = packet;
  if (packet.protocol !== UDP) return true;
  if (isNatEsp(packet, bytes)) {
    packet.protocol = ESP;
    packet.payload += 8;
    return true;
  }
  return (mayBeQuic(bytes, payload) || mayBeWireguard(bytes, payload)) && transport + 8 + 16 <= end;
}

function isNatEsp({ transport, payload, end }: Packet, bytes: Buffer): boolean {
  if (uint16(bytes, transport) !== ESP_PORT && uint16(bytes, transport + 2) !== ESP_PORT) return false;
  // An SPI of zero marks IKE.
  return end - payload >= 8 && int32(bytes, payload) !== 0;
}

/** Whether a datagram between the same ports belongs to another flow. */
function isOver(packet: Packet, flow: Flow, bytes: Buffer, seconds: number): boolean {
  if (Math.abs((seconds - flow.seen) | 0) > IDLE_SECONDS) return true;
  if (!flow.refused || startOf(packet, bytes) < 0) return false;
  const silence = Math.abs((seconds - flow.refusedAt) | 0);
  flow.refusedAt = seconds;
  return silence > REFUSED_SECONDS;
}

/** The protocol that a first packet begins; -1: none. */
function startOf({ protocol, payload, end }: Packet, bytes: Buffer): number {
  if (protocol === ESP) return IPSEC;
  if (isInitial(bytes, payload, end)) return QUIC;
  return isHandshake(bytes, payload, end) ? WIREGUARD : -1;
}

/** Whether a datagram is ciphertext, and enough of that was forwarded. */
function isBulk({ packet, firstBytes }: State, flow: Flow, own: Direction, bytes: Buffer): boolean {
  const { payload, end } = packet;
  if (own.stage === LOST || !isSecret(packet, flow, own, bytes)) return false;
  const sample = flow.protocol === QUIC ? QUIC_SAMPLE : flow.protocol === IPSEC ? ESP_SAMPLE : WIREGUARD_SAMPLE;
  if (looksClear(own, bytes, payload + sample, end, AT_BEGINNING)) {
    own.stage = LOST;
    return false;
  }
  if (own.ciphertext >= firstBytes) return flow.protocol !== IPSEC || own.packets > ESP_PACKETS;
  countCiphertext(own, end - payload);
  return false;
}

function isSecret({ payload, end }: Packet, flow: Flow, own: Direction, bytes: Buffer): boolean {
  if (flow.protocol === QUIC) return isQuicData(flow, own, bytes, payload, end);
  if (flow.protocol === WIREGUARD) return isWireguardData(flow, own, bytes, payload, end);
  if (!isEspClear(own, bytes, payload, end)) return true;
  own.stage = LOST;
  return false;
}
