/**
 * An alert as an engine reported it, before anyone knows whose packet it was.
 */

/** One end of the flow. `port` is absent for protocols without ports. */
export interface Address {
  ip: string;
  port?: number;
}

export interface Alert {
  /** Capture time of the packet that fired: microseconds since the Unix epoch, an integer. */
  timeMicros: number;
  /** Outer VLAN id: the endpoint's lease, 0 when the frame had none. */
  vlan: number;
  gid: number;
  sid: number;
  rev: number;
  /** The rule's `msg`, at most 1,024 characters, without control characters. Empty where the format has none. */
  message: string;
  /** Classification: the class's long text in Suricata and Snort ("Misc activity"). Empty where unknown. */
  classification: string;
  /** 1 is the most severe; 0 when the engine gave none. */
  priority: number;
  /** Upper case: TCP, UDP, ICMP, IP, … */
  protocol: string;
  source: Address;
  destination: Address;
  /** Ordinal of the packet in the engine's input, from 1; absent where the format has none. */
  packetNumber?: number;
  /** Whether it is of what the engine put together, and not of a packet; absent where the format does not say. */
  rebuilt?: boolean;
  /** What the rule was matched against, or the packet; at most 65,535 bytes. */
  payload?: Buffer;
  /** The application protocol as the engine found it ("http"). */
  service?: string;
  /** Its flow up to this alert, where the engine keeps one. */
  flow?: Flow;
  /** Files that the engine saw in the transaction; Suricata's. */
  files?: EngineFile[];
  /** SMB, as the engine understood it; Suricata's. */
  smb?: SmbFacts;
}

export interface EngineFile {
  /** As it was sent: of HTTP the path of the URL. */
  name?: string;
  /** Bytes that were seen. */
  size?: number;
  /** In libmagic's words, where the engine looks. */
  type?: string;
  /** `CLOSED`, `TRUNCATED`. */
  state?: string;
  md5?: string;
  sha1?: string;
  sha256?: string;
}

export interface SmbFacts {
  command?: string;
  dialect?: string;
  status?: string;
  share?: string;
  filename?: string;
  named_pipe?: string;
  disposition?: string;
}

/** Both directions of a flow, seen from who began it. */
export interface Flow {
  /** Time of its first packet: microseconds since the Unix epoch. */
  startMicros: number;
  /** Whether that is only known to the second: Snort's. */
  isWholeSecond?: true;
  packetsToServer: number;
  packetsToClient: number;
  bytesToServer: number;
  bytesToClient: number;
}

/** Where in an engine's output an item stands: bytes from the start of the generation's output stream. */
export interface Span {
  /** Offset of the item's first byte. */
  start: number;
  /** Offset just behind the item's last byte. */
  end: number;
}

/** Where an alert stands in what an engine wrote. */
export interface Position {
  /** Name of the engine's generation, at most 100 characters, without a colon. */
  generation: string;
  /** Of the alert's first byte, from the start of the generation's output stream. */
  offset: number;
}

/** `<generation>:<offset>`, as it is written wherever an alert's position is. */
export function positionText({ generation, offset }: Position): string {
  return `${generation}:${offset}`;
}

/** What a decoder finds: an alert, or bytes that are not one. Every input byte that is not skipped on purpose
 * (other event types, white space) belongs to exactly one item. */
export type Decoded =
  ({ kind: 'alert'; alert: Alert } & Span) | ({ kind: 'damage'; /** What was wrong. */ reason: string } & Span);

/**
 * An incremental reader of one alert format: a pure state machine over bytes.
 * It never throws on input, whatever the bytes are, and holds at most one partial item in memory
 * (bounded: a longer one is damage).
 */
export interface Decoder {
  /** Takes the next bytes of the stream, in order. */
  push(chunk: Buffer): Decoded[];
  /** The input is idle: gives the alert that waits for a further record (unified2) as it is. */
  flush?(): Decoded[];
  /** The stream is over: what is left over is damage (or, for a complete object without its line end, an alert). */
  end(): Decoded[];
}
