/**
 * ESP (RFC 4303), also in UDP (RFC 3948): no handshake is seen, only an SPI. So each packet is looked at for signs that
 * the "encryption" is NULL (RFC 2410), which is inspected: an IP packet inside (RFC 5879 lists such heuristics), or
 * words that are as they were in the packet before, as headers are and ciphertext is not.
 *
 * Not looked at are the 8 bytes behind the sequence number: initialisation vectors may count up.
 */
import { byteAt, int32, uint16 } from '../bytes.ts';
import { ESP_WORDS, type Direction } from './flow.ts';

export const ESP_PORT = 4500;
/** Packets of a direction that are looked at before any is taken away. */
export const ESP_PACKETS = 8;
/** Behind the longest initialisation vector. */
export const ESP_SAMPLE = 16;
const SHORT_VECTOR = 8;
/** Packets with something like an IP header; of ciphertext, one in 2^16 has it. */
const MAX_HEADERS = 3;
/** Padding, its length, next header, and an integrity check value: at most that much is behind an inner packet. */
const MAX_TRAILER = 255 + 2 + 32;
/** Sequence numbers that are further apart are none: so many packets are not lost, or late. */
const MAX_STEP = 1 << 16;
/** Place of whether the last packet was one that came twice. */
const TWICE = ESP_WORDS + 1;

/** @param payload Behind SPI and sequence number. */
export function isEspClear(direction: Direction, bytes: Buffer, payload: number, end: number): boolean {
  const judged = direction.packets < 0xffff ? direction.packets++ : direction.packets;
  if (judged < 64 && (isIp(bytes, payload, end) || isIp(bytes, payload + SHORT_VECTOR, end))) direction.headers++;
  return repeatsWords(direction, bytes, payload, end) || direction.headers >= MAX_HEADERS;
}

function isIp(bytes: Buffer, at: number, end: number): boolean {
  const room = end - at;
  if (room < 40) return false;
  const first = byteAt(bytes, at);
  const length = first === 0x45 ? uint16(bytes, at + 2) : first >>> 4 === 6 ? 40 + uint16(bytes, at + 4) : 0;
  return length > 0 && length < room && room - length <= MAX_TRAILER;
}

/**
 * Whether words are as they were in the packet before, or sequence numbers are not those of ESP (RFC 4303, 2.2):
 * whoever sends other datagrams from its port may not have their numbers stand for packets that the capture shows
 * twice.
 */
function repeatsWords(direction: Direction, bytes: Buffer, payload: number, end: number): boolean {
  const from = payload + SHORT_VECTOR;
  if (from + 4 * ESP_WORDS > end) return false;
  const { words, packets } = direction;
  const sequence = int32(bytes, payload - 4);
  const isFirst = packets <= 1;
  const step = isFirst ? 1 : (sequence - (words[ESP_WORDS] ?? 0)) | 0;
  let repeats = false;
  let isSame = true;
  for (let index = 0; index < ESP_WORDS; index++) {
    const word = int32(bytes, from + 4 * index);
    if (words[index] === word) repeats = true;
    else isSame = false;
    words[index] = word;
  }
  words[ESP_WORDS] = sequence;
  if (step === 0) {
    const isTwice = isSame && words[TWICE] === 0;
    words[TWICE] = 1;
    return !isTwice;
  }
  words[TWICE] = 0;
  return !isFirst && (repeats || Math.abs(step) > MAX_STEP);
}
