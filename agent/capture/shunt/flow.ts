/** What is kept of one flow. Objects are used again; all numbers are small integers, which are never boxed. */

/** In the order of SHUNT_PROTOCOLS. */
export const TLS = 0;
export const QUIC = 1;
export const SSH = 2;
export const WIREGUARD = 3;
export const IPSEC = 4;

export const WAITING = 0;
export const FOLLOWING = 1;
/** What it sends is forwarded for good. */
export const LOST = 2;
/** So is this, until a frame shows where records begin. */
export const ADRIFT = 3;

/** Ranges taken out of a stream that are known apart; older ones are forgotten. */
export const RANGES = 4;
/** Start, end, and how many bytes had been taken out before: sequence numbers, and a difference of such. */
export const RANGE_FIELDS = 3;

/** Bytes of ciphertext that are counted at most. */
export const MAX_FIRST_BYTES = 0x3fff_ffff;
/** The longest header of a unit: SSH. */
const MAX_UNIT_HEADER = 10;

export interface Direction {
  stage: number;
  /**
   * Its part of the handshake ended with a change to new keys: ChangeCipherSpec, NEWKEYS. WireGuard: it sent an
   * initiation.
   */
  keyed: boolean;
  /** Bytes of ciphertext that the engine got, at most MAX_FIRST_BYTES. */
  ciphertext: number;
  /** Bytes in a row, of those looked at, that could be text. */
  text: number;

  // A stream. A unit is a TLS record, or a packet of SSH before its new keys.
  /** Sequence number behind the last byte followed. */
  next: number;
  /** Bytes of the present unit that follow. */
  left: number;
  /** SSH: units can't be told any more, and need not. */
  endless: boolean;
  /** The present unit is taken out; is ciphertext; gives new keys when it ends. */
  isTakenOut: boolean;
  secret: boolean;
  lastClear: boolean;
  /** The header of a unit that began at the end of a segment. */
  headerBytes: number;
  header: number[];
  /** RANGES times RANGE_FIELDS, the oldest first, and how many of them there are. */
  ranges: number[];
  rangeCount: number;
  /** The acknowledgement, in the engine's numbers, and the window that the engine saw last. */
  acknowledges: boolean;
  acknowledged: number;
  window: number;

  /**
   * What its sender chose. WireGuard: its index. SSH: the first random bytes of its key exchange. QUIC: the length of
   * its connection id, which is in `words`.
   */
  index: number;
  /** SSH: 1 from its key exchange on. ESP: packets that were looked at. */
  packets: number;

  // Datagrams.
  /** ESP: of its last packet a few words, the sequence number, and whether it came twice. */
  words: number[];
  headers: number;
}

export interface Flow {
  protocol: number;
  /** TLS 1.3, which has no clear sign of new keys. */
  version13: boolean;
  /** TLS: the end with the lower address said the ClientHello. */
  fromLow: boolean;
  /** Its ends say what no ends would: all of it is forwarded until it is over. */
  refused: boolean;
  /** Seconds when a packet of it was seen and forwarded last; of a refused one, when a handshake was. */
  seen: number;
  forwarded: number;
  refusedAt: number;
  low: Direction;
  high: Direction;
}

/** Words of an ESP packet that are compared with the one before. */
export const ESP_WORDS = 8;

export function createFlow(): Flow {
  return {
    protocol: 0,
    version13: false,
    fromLow: false,
    refused: false,
    seen: 0,
    forwarded: 0,
    refusedAt: 0,
    low: createDirection(),
    high: createDirection(),
  };
}

export function resetFlow(flow: Flow, protocol: number, seconds: number): void {
  flow.protocol = protocol;
  flow.version13 = flow.fromLow = flow.refused = false;
  flow.seen = flow.forwarded = flow.refusedAt = seconds;
  resetDirection(flow.low);
  resetDirection(flow.high);
}

function createDirection(): Direction {
  return {
    stage: WAITING,
    keyed: false,
    ciphertext: 0,
    text: 0,
    next: 0,
    left: 0,
    endless: false,
    isTakenOut: false,
    secret: false,
    lastClear: false,
    headerBytes: 0,
    header: Array.from({ length: MAX_UNIT_HEADER }, () => 0),
    ranges: Array.from({ length: RANGES * RANGE_FIELDS }, () => 0),
    rangeCount: 0,
    acknowledges: false,
    acknowledged: 0,
    window: 0,
    index: 0,
    packets: 0,
    words: Array.from({ length: ESP_WORDS + 2 }, () => 0),
    headers: 0,
  };
}

function resetDirection(direction: Direction): void {
  direction.stage = WAITING;
  direction.keyed = direction.endless = direction.isTakenOut = direction.secret = direction.lastClear = false;
  direction.acknowledges = false;
  direction.ciphertext = direction.text = direction.next = direction.left = direction.headerBytes = 0;
  direction.rangeCount = direction.acknowledged = direction.window = 0;
  direction.index = direction.packets = direction.headers = 0;
}

export function refuse(flow: Flow): void {
  flow.refused = true;
  flow.refusedAt = flow.seen;
  flow.low.stage = flow.high.stage = LOST;
}

/** Whether nothing was taken out of a TCP connection. */
export function isUncut({ low, high }: Flow): boolean {
  return low.rangeCount === 0 && high.rangeCount === 0;
}

/** Counts bytes of ciphertext that the engine gets. */
export function countCiphertext(direction: Direction, bytes: number): void {
  direction.ciphertext = Math.min(MAX_FIRST_BYTES, direction.ciphertext + bytes);
}
