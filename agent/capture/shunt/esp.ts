/**
 * ESP (RFC 4303), also in UDP (RFC 3948): no handshake is seen, only an SPI. So each packet is looked at for signs that
 * the "encryption" is NULL (RFC 2410), which is inspected: an IP packet inside (RFC 5879 lists such heuristics), or
 * words that are as they were in the packet before, as headers are and ciphertext is not.
 *
 * Not looked at are the 8 bytes behind the sequence number: initialisation vectors may count up.
 */
import { byteAt, int32, uint16 } from './bytes.ts';
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

/** A packet that the capture shows twice is none of interest: it has the sequence number of the one before. */
function repeatsWords(direction: Direction, bytes: Buffer, payload: number, end: number): boolean {
  const from = payload + SHORT_VECTOR;
  if (from + 4 * ESP_WORDS > end) return false;
  const { words, packets } = direction;
  const sequence = int32(bytes, payload - 4);
  if (packets > 1 && words[ESP_WORDS] === sequence) return false;
  let repeats = false;
  for (let index = 0; index < ESP_WORDS; index++) {
    const word = int32(bytes, from + 4 * index);
    if (packets > 1 && words[index] === word) repeats = true;
    words[index] = word;
  }
  words[ESP_WORDS] = sequence;
  return repeats;
}
