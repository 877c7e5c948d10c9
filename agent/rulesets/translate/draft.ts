/**
 * A rule on its way from Snort to Suricata.
 *
 * Snort's options work one after another on a cursor, and selecting a buffer puts the cursor to its start, also when
 * the rule comes back to it. Suricata collects the options of a buffer, wherever they stand. So the options are
 * collected here by buffer, and the first one after a selection is never relative: it counts from the start.
 */
import type { SnortBuffer } from './buffers.ts';
import { PAYLOAD } from './buffers.ts';
import { refuse } from './refusal.ts';

export interface Section {
  buffer: SnortBuffer;
  options: string[];
  /** Whether a pattern has a `+`, which `url_decode` would take away. */
  hasPlus: boolean;
  /**
   * Whether a pattern has what Suricata's buffer of headers never has: a name and colon without a space behind it, or a
   * line feed alone.
   */
  isRaw: boolean;
}

export interface Draft {
  /** Options of `flow`, without the direction's. */
  flow: string[];
  direction?: 'to_server' | 'to_client';
  services: string[];
  /** Options that look at headers of packets, or at nothing in a buffer. */
  packet: string[];
  filters: string[];
  references: string[];
  classtype?: string;
  priority?: string;
  metadata: string[];
  sections: Section[];
  current: Section;
  /** Whether the cursor is at the start of the current buffer. */
  atStart: boolean;
  /** Variables of `byte_extract` and `byte_math`, with the buffer that they were read from. */
  variables: Map<string, Section>;
  /** What has the fast pattern, if anything. */
  hasFastPattern: boolean;
}

export function createDraft(): Draft {
  const payload = { buffer: PAYLOAD, options: [], hasPlus: false, isRaw: false };
  return {
    flow: [],
    services: [],
    packet: [],
    filters: [],
    references: [],
    metadata: [],
    sections: [payload],
    current: payload,
    atStart: true,
    variables: new Map(),
    hasFastPattern: false,
  };
}

/** Takes the options that follow as of this buffer, with the cursor at its start. */
export function select(draft: Draft, buffer: SnortBuffer): void {
  let section = draft.sections.find((known) => known.buffer.keyword === buffer.keyword);
  if (section === undefined) {
    section = { buffer, options: [], hasPlus: false, isRaw: false };
    draft.sections.push(section);
  }
  draft.current = section;
  draft.atStart = true;
}

/** A number, or a variable read from the same buffer. `what` names the option for a reason. */
export function operand(draft: Draft, what: string, text: string): string {
  if (/^-?(?:\d+|0x[0-9a-f]+)$/i.test(text)) return text;
  const origin = draft.variables.get(text);
  if (origin === undefined) refuse(`${what}: the variable ${text} is not read before`);
  if (origin !== draft.current)
    refuse(`${what}: the variable ${text} is read from another buffer, which Suricata looks at apart`);
  return text;
}
