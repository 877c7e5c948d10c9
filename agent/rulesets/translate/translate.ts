/**
 * Rules of Snort 3 for Suricata 7 and 8: each one faithfully, or not at all, with the reason.
 *
 * Pure: a rule in, a text out. Never throws, whatever the rule; takes time linear in its length.
 * What "faithfully" leaves open is in docs/translation.md.
 */
import { optionOfSnort2 } from '../../engine/snort/snort2.ts';
import { copyGid } from '../../engine/suricata/copies.ts';
import type { Variables } from '../../rule-variables.ts';
import type { RuleInfo } from '../rule.ts';
import { ruleOptions } from '../rule.ts';
import { abilitiesOf, type Abilities } from './abilities.ts';
import { findBuffer, isBuffer } from './buffers.ts';
import type { Draft, Section } from './draft.ts';
import { createDraft, select } from './draft.ts';
import type { Variant } from './header.ts';
import { parseHeader, translateHeader } from './header.ts';
import { KEYWORDS } from './keywords.ts';
import { Refusal, refuse } from './refusal.ts';

/** Characters in one rule that Suricata reads. */
const MAX_LENGTH = 8190;
export type Translation =
  /** `text`: one line, or several of one rule each (see `agent/engine/suricata/copies.ts`). */
  { kind: 'rule'; text: string } | { kind: 'refused'; reason: string };

/** @param rule As `parseRules` read it. @param variables What Suricata is configured with. */
export function translateRule(rule: RuleInfo, variables: Variables, abilities = abilitiesOf()): Translation {
  try {
    return { kind: 'rule', text: translate(rule, variables, abilities).join('\n') };
  } catch (error) {
    if (error instanceof Refusal) return { kind: 'refused', reason: error.message };
    throw error;
  }
}

function translate(rule: RuleInfo, variables: Variables, abilities: Abilities): string[] {
  const draft = createDraft();
  for (const { key, value } of ruleOptions(rule)) {
    if (isBuffer(key)) select(draft, findBuffer(key, value));
    else
      (KEYWORDS.get(key) ?? refuse(`${key}: ${optionOfSnort2(key) ?? 'Suricata has nothing like it'}`))(
        draft,
        value,
        key,
      );
  }
  const sections = orderedSections(draft);
  checkSides(draft, sections);
  const ofProtocols = sections.flatMap(({ buffer: { protocols } }) => (protocols === undefined ? [] : [protocols]));
  const packetProtocols = neededByOptions(draft);
  const needed = [...ofProtocols, ...packetProtocols];
  const protocols = needed.length === 0 ? undefined : intersection(needed);
  const buffers = sections.flatMap(({ buffer }) => (buffer.protocols === undefined ? [] : [buffer.name])).join(' and ');
  if (protocols?.length === 0) refuse(`no flow in Suricata has ${buffers}`);
  if (protocols !== undefined) checkPacketOptions(draft, buffers);
  const parsed = parseHeader(rule.header, variables);
  const needs = {
    services: draft.services,
    buffers: buffers || 'that',
    abilities,
    ...(protocols === undefined ? {} : { protocols }),
  };
  const variants = translateHeader(parsed, needs, variables);
  // Suricata looks at a stream in larger parts, and counts each once: what is counted is looked at packet by packet.
  const counts = draft.filters.length > 0 && protocols === undefined && !draft.flow.includes('only_stream');
  return variants.map(({ header: original, ...rest }, copy) => {
    const variant = { ...rest, header: counts ? original.replace(/^(\w+) tcp /, '$1 tcp-pkt ') : original };
    const gid = copyGid(rule.gid, copy) ?? refuse(`the gid ${rule.gid} is too high for a rule that becomes several`);
    return print(rule, draft, sections, variant, gid);
  });
}

/** The payload first, because it has no keyword; what is decoded from a buffer right behind it. */
function orderedSections(draft: Draft): Section[] {
  const used = draft.sections.filter(({ buffer, options }) => {
    if (options.length === 0 && buffer.keyword !== undefined)
      refuse(`${buffer.name}: selected, and nothing looked for in it`);
    return options.length > 0;
  });
  const decoded = used.find(({ buffer }) => buffer.keyword === 'base64_data');
  if (decoded === undefined) return used;
  const from = used.findIndex(({ options }) => options.some((option) => option.startsWith('base64_decode')));
  if (from < 0) refuse('base64_data without base64_decode');
  const others = used.filter((section) => section !== decoded);
  const behind = others.findIndex((section) => section === used[from]) + 1;
  return [...others.slice(0, behind), decoded, ...others.slice(behind)];
}

/** Suricata looks at one direction at a time: in Snort a request's buffers are there with the response too. */
function checkSides(draft: Draft, sections: Section[]): void {
  const of = (side: 'request' | 'response'): string | undefined =>
    sections.find(({ buffer }) => buffer.side === side)?.buffer.name;
  const [request, response] = [of('request'), of('response')];
  if (request !== undefined && response !== undefined)
    refuse(`${request} is of requests and ${response} of responses: Suricata takes one direction a rule`);
  if (request !== undefined && draft.direction === 'to_client')
    refuse(`${request} is of requests, and the rule looks at responses`);
  if (response !== undefined && draft.direction === 'to_server')
    refuse(`${response} is of responses, and the rule looks at requests`);
}

/** Protocols that options without a buffer belong to. */
function neededByOptions({ packet }: Draft): string[][] {
  const has = (prefix: string): boolean => packet.some((option) => option.startsWith(prefix));
  return [...(has('dcerpc.') ? [['dcerpc', 'smb']] : []), ...(has('ssl_') ? [['tls']] : [])];
}

/** Suricata looks at buffers of a protocol apart from the packets that they came in. */
function checkPacketOptions({ packet }: Draft, buffers: string): void {
  const option = packet.find((one) => !/^(?:flowbits|target|dcerpc\.|ssl_)/.test(one));
  if (option !== undefined) {
    refuse(
      `${option.replace(/:.*/s, '')} is about one packet, and Suricata looks at ${buffers || 'a protocol'} apart from packets`,
    );
  }
}

function intersection(lists: (readonly string[])[]): string[] {
  const [first = [], ...others] = lists;
  return first.filter((name) => others.every((names) => names.includes(name)));
}

function print(rule: RuleInfo, draft: Draft, sections: Section[], { header, option }: Variant, gid: number): string {
  const flow = [...(draft.direction === undefined ? [] : [draft.direction]), ...draft.flow];
  const options = [
    // An empty one is an error, none is not.
    ...(rule.message === '' ? [] : [`msg:"${rule.message.replaceAll(/[\\";]/g, '\\$&')}"`]),
    ...(flow.length === 0 ? [] : [`flow:${flow.join(',')}`]),
    ...(option === undefined ? [] : [option]),
    ...draft.packet,
    ...sections.flatMap(printSection),
    ...draft.filters,
    ...draft.references.map((reference) => `reference:${reference}`),
    ...(draft.classtype === undefined ? [] : [`classtype:${draft.classtype}`]),
    ...(draft.priority === undefined ? [] : [`priority:${draft.priority}`]),
    ...(draft.metadata.length === 0 ? [] : [`metadata:${draft.metadata.join(', ')}`]),
    ...(gid === 1 ? [] : [`gid:${gid}`]),
    `sid:${rule.sid}`,
    ...(rule.rev === 0 ? [] : [`rev:${rule.rev}`]),
  ];
  const text = `${header} (${options.join('; ')};)`.replaceAll(/[\r\n]+/g, ' ');
  if (text.length > MAX_LENGTH)
    refuse(`translated it has more than ${MAX_LENGTH.toLocaleString('en')} characters, the most that Suricata reads`);
  return text;
}

function printSection({ buffer, options, hasPlus, isRaw }: Section): string[] {
  if (buffer.keyword === undefined) return options;
  // In Suricata's buffer of headers there is a space behind each colon and CRLF behind each line, whatever was sent.
  if (buffer.keyword === 'http.header' && isRaw) return ['http.header.raw', ...options];
  return [buffer.keyword, ...(buffer.decoded && !hasPlus ? ['url_decode'] : []), ...options];
}
