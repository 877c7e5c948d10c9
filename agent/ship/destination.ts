/** What a sink delivers to. The sink reads the journal, keeps its cursor and tries again; a destination only sends. */

/** An event of the journal. */
export interface Item {
  /** Events before it since the journal began. */
  number: number;
  /** `record.event_id`. */
  id: string;
  /** The journal's line, without the newline. */
  json: string;
  /** The capture file of its flow, where there is one. */
  packets?: ReadPackets;
}

/**
 * @param maxBytes Of packets: those of alerts first, then from the beginning.
 * @returns undefined once it is gone. @throws the system's other errors.
 */
export type ReadPackets = (maxBytes: number) => Promise<PacketFile | undefined>;

export interface PacketFile {
  /** pcapng */
  content: Buffer;
  /** It has fewer packets than were kept. */
  cut: boolean;
}

/** Of capture files, since the start. */
export interface PacketCounts {
  sent: number;
  /** The destination did not take them: their events are there without. */
  refused: number;
}

/** What became of one item. */
export type Outcome =
  /** `duplicate`: it had been there already. */
  | { is: 'delivered'; duplicate?: boolean }
  /**
   * It may go through later. `throttled`: the destination asks for patience, so that it isn't the item's fault.
   * `afterMillis`: not before.
   */
  | { is: 'retry'; reason: string; throttled?: boolean; afterMillis?: number }
  /** It will never go through. `status`: the destination's code, where it has one. */
  | { is: 'rejected'; reason: string; status?: number };

export type SendFailure =
  | 'unreachable'
  | 'timeout'
  | 'tls'
  | 'unauthorized'
  | 'throttled'
  | 'too_large'
  | 'refused'
  | 'server_error'
  | 'incomplete';

/**
 * Nothing is known of the whole batch. `too_large` and `refused` may be the fault of single items: the sink tries
 * smaller batches; all others are tried again as they are. The message is for an operator: what, where, what to do;
 * never a credential.
 */
export class SendError extends Error {
  override readonly name = 'SendError';
  readonly failure: SendFailure;
  /** When the destination wants to be asked again. */
  readonly afterMillis: number | undefined;

  constructor(failure: SendFailure, message: string, cause?: unknown, afterMillis?: number) {
    super(message, { cause });
    this.failure = failure;
    this.afterMillis = afterMillis;
  }
}

export interface Destination {
  /** At most so many items at once, whatever the configuration says. */
  readonly maxEvents?: number;
  /**
   * An outcome for each item, in order.
   * @throws SendError when nothing is known of any. The reason of the signal when it is aborted.
   */
  send(items: readonly Item[], signal: AbortSignal): Promise<Outcome[]>;
  /** What the latest send was answered, for a person; of those that answer. */
  answer?(): string | undefined;
  /** Of those that take packets. */
  packets?(): PacketCounts;
  close(): Promise<void>;
}
