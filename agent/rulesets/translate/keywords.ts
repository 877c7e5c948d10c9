/**
 * Snort 3's rule options, and what each becomes. An option that is not in the table makes the rule untranslatable.
 *
 * Facts from the sources of Snort 3.12 and Suricata 7.0 and 8.0: where the two read the same word differently, it is said at
 * the option.
 */
import { SEMICOLON } from '../../engine/snort/snort2.ts';
import type { Draft } from './draft.ts';
import { operand, select } from './draft.ts';
import { parsePattern, printPattern } from './pattern.ts';
import type { Range } from './range.ts';
import { parseRange, printRange } from './range.ts';
import { refuse, shown } from './refusal.ts';

type Emitter = (draft: Draft, value: string, key: string) => void;

/** The option that a buffer is selected by is not here: `findBuffer` knows those. */
export const KEYWORDS = new Map<string, Emitter>(
  Object.entries({
    // About the rule.
    classtype: (draft, value) => {
      draft.classtype = /^[\w.-]+$/.test(value) ? value : refuse(`classtype is not a name: ${shown(value)}`);
    },
    priority: (draft, value) => {
      draft.priority = /^\d{1,10}$/.test(value) ? value : refuse(`priority is not a number: ${shown(value)}`);
    },
    metadata: (draft, value) => {
      // What would end the option in Suricata is left out: it says nothing about what matches.
      draft.metadata.push(...list(unquoted(value).replaceAll(/[;"\\\s]+/g, ' ')));
    },
    reference: (draft, value) => {
      draft.references.push(unquoted(value).replaceAll(/[;"\\\s]/g, encodeURIComponent));
    },
    service: (draft, value) => {
      draft.services.push(...list(value));
    },
    // Read elsewhere, by `parseRules`.
    msg: ignored,
    gid: ignored,
    sid: ignored,
    rev: ignored,
    // They say nothing about which packets match.
    rem: ignored,
    soid: ignored,
    tag: ignored,
    target: (draft, value) => {
      draft.packet.push(
        `target:${oneOf('target', value, ['src_ip', 'dest_ip', 'dst_ip']).replace('dst_ip', 'dest_ip')}`,
      );
    },

    // Flows.
    flow: (draft, value) => {
      for (const word of list(value)) {
        if (word === 'to_server' || word === 'from_client') draft.direction = 'to_server';
        else if (word === 'to_client' || word === 'from_server') draft.direction = 'to_client';
        else
          draft.flow.push(
            oneOf('flow', word, [
              'established',
              'not_established',
              'stateless',
              'only_stream',
              'no_stream',
              'no_frag',
              'only_frag',
            ]),
          );
      }
    },
    flowbits,
    detection_filter: (draft, value) => {
      const [, track = '', count, seconds] =
        /^track\s+(by_src|by_dst)\s*,\s*count\s+(\d+)\s*,\s*seconds\s+(\d+)$/.exec(value) ??
        refuse(`detection_filter is not track, count, seconds: ${shown(value)}`);
      draft.filters.push(`detection_filter:track ${track}, count ${count}, seconds ${seconds}`);
    },

    // Headers of packets.
    ack: exact('tcp.ack'),
    dsize: ranged('dsize'),
    flags: (draft, value) => {
      if (!/^[!*+]?[FSRPAU012CE]+[!*+]?(?:,[FSRPAU12CE]+)?$/.test(value))
        refuse(`flags is not understood: ${shown(value)}`);
      draft.packet.push(`tcp.flags:${value}`);
    },
    fragbits: (draft, value) => {
      if (!/^[!*+]?[MDR]+[!*+]?$/.test(value)) refuse(`fragbits is not understood: ${shown(value)}`);
      draft.packet.push(`fragbits:${value}`);
    },
    fragoffset: (draft, value) => {
      const range = parseRange('fragoffset', value);
      if (!('not' in range) && range.max !== undefined && range.min !== range.max && range.min !== 0) {
        refuse('fragoffset: Suricata has no range with two ends');
      }
      draft.packet.push(printRange('fragoffset', range) ?? 'fragoffset:>0');
    },
    icmp_id: exact('icmp_id'),
    icmp_seq: exact('icmp_seq'),
    icode: ranged('icode'),
    id: exact('id'),
    ip_proto: (draft, value) => {
      const [, operator = '', protocol] =
        /^([!<>]?)\s*([\w-]+)$/.exec(value) ?? refuse(`ip_proto is not understood: ${shown(value)}`);
      draft.packet.push(`ip_proto:${operator}${protocol}`);
    },
    ipopts: (draft, value) => {
      draft.packet.push(
        `ipopts:${oneOf('ipopts', value, ['rr', 'eol', 'nop', 'ts', 'sec', 'esec', 'lsrr', 'lsrre', 'ssrr', 'satid', 'any'])}`,
      );
    },
    itype: ranged('itype'),
    rpc: (draft, value) => {
      if (!/^\d+,\s*(?:\d+|\*),\s*(?:\d+|\*)$/.test(value)) refuse(`rpc is not understood: ${shown(value)}`);
      draft.packet.push(`rpc:${value.replaceAll(/\s/g, '')}`);
    },
    seq: exact('tcp.seq'),
    tos: exact('tos'),
    ttl: ranged('ttl'),
    window: exact('tcp.window'),

    // Protocols.
    dce_iface: (draft, value) => {
      const [, uuid = '', more = ''] =
        /^uuid\s+([0-9a-f-]{36})((?:,.*)?)$/i.exec(value) ?? refuse(`dce_iface is not understood: ${shown(value)}`);
      const rest = list(more).map((word) => {
        const version = /^version\s+([<>=!]?)\s*(\d+)$/.exec(word);
        if (version !== null) return `${version[1] || '='}${version[2]}`;
        return oneOf('dce_iface', word, ['any_frag']);
      });
      draft.packet.push(`dcerpc.iface:${[uuid, ...rest].join(',')}`);
    },
    dce_opnum: (draft, value) => {
      const numbers = list(unquoted(value)).join(',');
      if (!/^[\d,-]+$/.test(numbers)) refuse(`dce_opnum is not understood: ${shown(value)}`);
      draft.packet.push(`dcerpc.opnum:${numbers}`);
    },
    sip_method: (draft, value) => {
      const [method, ...others] = list(value);
      if (method === undefined || others.length > 0 || method.startsWith('!'))
        refuse('sip_method: Suricata takes one method, not negated');
      inBuffer(
        draft,
        { name: 'sip_method', keyword: 'sip.method', protocols: ['sip'], side: 'request', size: 'whole' },
        [`content:"${printPattern(parsePattern(method.toUpperCase()))}"`, 'nocase', `bsize:${method.length}`],
      );
    },
    sip_stat_code: (draft, value) => {
      const [code, ...others] = list(value);
      // One digit stands for a hundred codes.
      if (code === undefined || others.length > 0 || !/^(?:\d|\d{3})$/.test(code))
        refuse('sip_stat_code: Suricata takes one code');
      inBuffer(
        draft,
        { name: 'sip_stat_code', keyword: 'sip.stat_code', protocols: ['sip'], side: 'response', size: 'whole' },
        [`content:"${code}"`, 'startswith'],
      );
    },
    ssl_state: (draft, value) => {
      const states = list(value).map((word) =>
        oneOf('ssl_state', word, ['client_hello', 'server_hello', 'client_keyx', 'server_keyx', 'unknown']),
      );
      draft.packet.push(`ssl_state:${states.join('|')}`);
    },
    ssl_version: (draft, value) => {
      const versions = list(value).map((word) =>
        oneOf('ssl_version', word, ['sslv2', 'sslv3', 'tls1.0', 'tls1.1', 'tls1.2']),
      );
      draft.packet.push(`ssl_version:${versions.join(',')}`);
    },

    // In the current buffer.
    base64_decode: (draft, value) => {
      const words = list(value).map((word) => {
        if (!/^(?:relative|(?:bytes|offset) \d+)$/.test(word))
          refuse(`base64_decode is not understood: ${shown(value)}`);
        return word;
      });
      const kept = draft.atStart ? words.filter((word) => word !== 'relative') : words;
      draft.current.options.push(kept.length === 0 ? 'base64_decode' : `base64_decode:${kept.join(', ')}`);
    },
    bufferlen: (draft, value) => {
      const [range = '', ...words] = list(value);
      bufferLength(draft, parseRange('bufferlen', range), words.includes('relative') && !draft.atStart);
    },
    byte_extract: byteExtract,
    byte_jump: byteJump,
    byte_math: byteMath,
    byte_test: byteTest,
    content,
    isdataat,
    pcre,
  } satisfies Record<string, Emitter>),
);

// --- Flows ----------------------------------------------------------------------------------------------------------

function flowbits(draft: Draft, value: string): void {
  const [operation = '', bits = '', ...others] = list(value);
  if (operation === 'noalert') {
    draft.packet.push('flowbits:noalert');
    return;
  }
  if (others.length > 0 || bits === '') refuse(`flowbits is not understood: ${shown(value)}`);
  oneOf('flowbits', operation, ['set', 'unset', 'isset', 'isnotset']);
  const isAnyOf = bits.includes('|');
  const names = bits.split(isAnyOf ? '|' : '&').map((name) => name.trim());
  if (names.some((name) => !/^[\w.:-]+$/.test(name))) refuse(`flowbits: not a name: ${shown(bits)}`);
  if (isAnyOf && operation.startsWith('is')) draft.packet.push(`flowbits:${operation},${names.join('|')}`);
  else for (const name of names) draft.packet.push(`flowbits:${operation},${name}`);
}

// --- Patterns -------------------------------------------------------------------------------------------------------

interface Content {
  negated: boolean;
  bytes: Buffer;
  nocase: boolean;
  fastPattern: boolean;
  fastOffset?: string;
  fastLength?: string;
  offset?: string;
  depth?: string;
  distance?: string;
  within?: string;
}

function content(draft: Draft, value: string): void {
  const it = readContent(draft, value);
  const { bytes, negated } = it;
  // Relative to the start of a buffer is not relative.
  if (draft.atStart) {
    const { distance, within } = it;
    delete it.distance;
    delete it.within;
    if (distance !== undefined) it.offset = distance;
    if (within !== undefined) it.depth = within;
  }
  for (const name of ['depth', 'within'] as const) {
    if (Number(it[name]) < bytes.length) refuse(`content: ${name} is shorter than the pattern`);
  }
  if (Number(it.offset) < 0) refuse('content: an offset before the start of the buffer');
  const words = [`content:${negated ? '!' : ''}"${printPattern(bytes)}"`];
  // `depth` counts from `offset` in both, but Suricata must have read `offset` before.
  for (const name of ['offset', 'depth', 'distance', 'within'] as const) {
    if (it[name] !== undefined) words.push(`${name}:${it[name]}`);
  }
  if (it.nocase) words.push('nocase');
  // Which pattern is searched for first changes nothing of what matches.
  if (it.fastPattern && !negated && draft.current.buffer.noFastPattern === undefined && !draft.hasFastPattern) {
    draft.hasFastPattern = true;
    words.push(it.fastLength === undefined ? 'fast_pattern' : `fast_pattern:${it.fastOffset ?? '0'},${it.fastLength}`);
  }
  draft.current.options.push(...words);
  if (bytes.includes(0x2b)) draft.current.hasPlus = true;
  if (/(?:^|\n)[\w-]+:(?!\/\/)[^\s]|[^\r]\n/.test(bytes.toString('latin1'))) draft.current.isRaw = true;
  if (!negated) draft.atStart = false;
}

function readContent(draft: Draft, value: string): Content {
  const [, not = '', text = '', rest = ''] =
    /^(!?)\s*"((?:[^"\\]|\\.)*)"(.*)$/s.exec(value) ??
    refuse(`content is not a text in quotation marks: ${shown(value)}`);
  const it: Content = { negated: not !== '', bytes: parsePattern(text), nocase: false, fastPattern: false };
  for (const word of list(rest)) {
    const [, name = '', argument] = /^(\w+)(?:\s+(\S+))?$/.exec(word) ?? [];
    if (name === 'nocase') it.nocase = true;
    else if (name === 'rawbytes') continue;
    else if (name.startsWith('fast_pattern')) {
      it.fastPattern = true;
      if (argument !== undefined && !/^\d+$/.test(argument)) refuse(`content is not understood: ${shown(word)}`);
      if (name === 'fast_pattern_offset' && argument !== undefined) it.fastOffset = argument;
      if (name === 'fast_pattern_length' && argument !== undefined) it.fastLength = argument;
    } else if (
      (name === 'offset' || name === 'depth' || name === 'distance' || name === 'within') &&
      argument !== undefined
    ) {
      it[name] = operand(draft, 'content', argument);
    } else {
      refuse(`content: Suricata has nothing like ${shown(word)}`);
    }
  }
  const isAbsolute = it.offset !== undefined || it.depth !== undefined;
  if (isAbsolute && (it.distance !== undefined || it.within !== undefined))
    refuse('content: both relative and absolute');
  return it;
}

/** Flags with the same meaning in both; `O` is about limits of time, which Suricata sets for all patterns. */
const PCRE_FLAGS = 'ismxAEG';

function pcre(draft: Draft, value: string): void {
  const [, not = '', pattern = '', flags = ''] =
    /^(!?)\s*"\/(.*)\/([a-zA-Z]*)"$/s.exec(value) ??
    refuse(`pcre is not a pattern between two /: ${shown(value)}${value.endsWith('"') ? '' : `: ${SEMICOLON}`}`);
  let kept = '';
  for (const flag of flags) {
    if (PCRE_FLAGS.includes(flag)) kept += flag;
    else if (flag === 'R') kept += draft.atStart ? '' : 'R';
    else if (flag !== 'O') refuse(`pcre: the flag ${flag}`);
  }
  if (/[\r\n]/.test(pattern)) refuse('pcre: a pattern over several lines');
  if (pattern.includes('\uFFFD')) refuse('a pattern with bytes that are not UTF-8: write them in hexadecimal');
  draft.current.options.push(`pcre:${not}"/${plainPcre(pattern)}/${kept}"`);
  if (/\+|\\x2b/i.test(pattern.replaceAll(/(?<=[^\\[])\+/g, ''))) draft.current.hasPlus = true;
  if (not === '') draft.atStart = false;
}

/** Suricata ends an option at a semicolon wherever it stands, and a pattern at a quotation mark. */
function plainPcre(pattern: string): string {
  return pattern.replaceAll(/\\(.)|[;"]/gs, (match, escaped: string | undefined) => {
    const character = escaped ?? match;
    if (character === ';') return '\\x3b';
    if (character === '"') return '\\x22';
    return match;
  });
}

// --- Lengths --------------------------------------------------------------------------------------------------------

function isdataat(draft: Draft, value: string): void {
  const [place = '', ...words] = list(value);
  const [, not = '', number = ''] =
    /^(!?)\s*(\S+)$/.exec(place) ?? refuse(`isdataat is not understood: ${shown(value)}`);
  const isRelative = words.includes('relative');
  operand(draft, 'isdataat', number);
  if (!isRelative || draft.atStart) {
    draft.current.options.push(`isdataat:${not}${number}`);
    return;
  }
  // Snort asks for a byte at the cursor plus N, Suricata for N bytes behind the cursor: one more is the same.
  if (!/^\d+$/.test(number)) refuse('isdataat: Suricata counts one byte less from a relative variable');
  draft.current.options.push(`isdataat:${not}${Number(number) + 1},relative`);
}

/** The length of a buffer, or of what is left of it behind the cursor. */
function bufferLength(draft: Draft, range: Range, isRelative: boolean): void {
  const { options, buffer } = draft.current;
  if (!isRelative && buffer.size === 'whole') {
    const printed = printRange('bsize', range);
    if (printed !== undefined) options.push(printed);
    return;
  }
  if ('not' in range) refuse('bufferlen: Suricata has no negated length of a buffer that it sees in parts');
  // `isdataat:N` is a length of more than N, `isdataat:N,relative` one of at least N.
  const at = (length: number): string => (isRelative ? `${length},relative` : `${length - 1}`);
  if (range.min > 0) options.push(`isdataat:${at(range.min)}`);
  if (range.max !== undefined) options.push(`isdataat:!${at(range.max + 1)}`);
}

// --- Numbers in the payload -----------------------------------------------------------------------------------------

interface ByteOptions {
  isRelative: boolean;
  isString: boolean;
  /** Words for Suricata, in the order given. */
  words: string[];
}

/** The words that the byte options share. `own`: those of one option alone, as they are in Suricata. */
function byteOptions(draft: Draft, key: string, words: string[], own: RegExp): ByteOptions {
  const result: ByteOptions = { isRelative: false, isString: false, words: [] };
  let base: string | undefined;
  for (const word of words) {
    if (word === 'relative') result.isRelative = !draft.atStart;
    else if (word === 'big' || word === 'little' || word === 'dce') result.words.push(word);
    else if (word === 'string') result.isString = true;
    else if (word === 'dec' || word === 'hex' || word === 'oct') base = word;
    else if (/^bitmask\s+0x[0-9a-f]+$/i.test(word) || own.test(word)) result.words.push(word.replace(/\s+/, ' '));
    else refuse(`${key}: Suricata has nothing like ${shown(word)}`);
  }
  if (result.isString) result.words.push('string', base ?? 'dec');
  if (result.isRelative) result.words.unshift('relative');
  return result;
}

function byteTest(draft: Draft, value: string): void {
  const [count = '', operator = '', compared = '', offset = '', ...words] = list(value);
  if (!/^!?(?:<|>|=|<=|>=|&|\^)$|^!$/.test(operator)) refuse(`byte_test: the operator ${shown(operator)}`);
  const { words: more, isString } = byteOptions(draft, 'byte_test', words, /^$/);
  checkCount('byte_test', count, isString);
  const parts = [
    count,
    operator === '!' ? '!=' : operator,
    operand(draft, 'byte_test', compared),
    operand(draft, 'byte_test', offset),
    ...more,
  ];
  draft.current.options.push(`byte_test:${parts.join(',')}`);
}

function byteJump(draft: Draft, value: string): void {
  const [count = '', offset = '', ...words] = list(value);
  // Suricata aligns to 4 bytes, as Snort does when it is not told otherwise.
  const aligned = words
    .filter((word) => !/^align\s+0$/.test(word))
    .map((word) => (/^align\s+4$/.test(word) ? 'align' : word));
  const { words: more, isString } = byteOptions(
    draft,
    'byte_jump',
    aligned,
    /^(?:align|from_beginning|from_end|(?:multiplier|post_offset)\s+-?\d+)$/,
  );
  checkCount('byte_jump', count, isString);
  draft.current.options.push(`byte_jump:${[count, operand(draft, 'byte_jump', offset), ...more].join(',')}`);
  draft.atStart = false;
}

function byteExtract(draft: Draft, value: string): void {
  const [count = '', offset = '', name = '', ...words] = list(value);
  const { words: more, isString } = byteOptions(draft, 'byte_extract', words, /^(?:align\s+[24]|multiplier\s+\d+)$/);
  checkCount('byte_extract', count, isString);
  checkName('byte_extract', name);
  draft.current.options.push(
    `byte_extract:${[count, operand(draft, 'byte_extract', offset), name, ...more].join(',')}`,
  );
  draft.variables.set(name, draft.current);
  draft.atStart = false;
}

/** Parts of `byte_math` in Suricata's order, and what each may be. */
const MATH: readonly (readonly [string, RegExp])[] = [
  ['bytes', /^(?:\d|10)$/],
  ['offset', /./],
  ['oper', /^(?:[-+*/]|<<|>>)$/],
  ['rvalue', /./],
  ['result', /^\w+$/],
  ['relative', /^$/],
  ['endian', /^(?:big|little)$/],
  ['string', /^(?:hex|dec|oct)$/],
  ['dce', /^$/],
  ['bitmask', /^0x[0-9a-f]+$/i],
];

function byteMath(draft: Draft, value: string): void {
  const words = new Map<string, string>();
  for (const word of list(value)) {
    const [, name = '', argument = ''] =
      /^(\w+)(?:\s+(\S+))?$/.exec(word) ?? refuse(`byte_math is not understood: ${shown(word)}`);
    words.set(name, argument);
  }
  const result = words.get('result') ?? '';
  checkName('byte_math', result);
  const parts: string[] = [];
  for (const [name, form] of MATH) {
    const argument = words.get(name);
    words.delete(name);
    if (argument === undefined || (name === 'relative' && draft.atStart)) continue;
    if (!form.test(argument)) refuse(`byte_math: ${name} is not understood: ${shown(argument)}`);
    if (name === 'offset' || name === 'rvalue') operand(draft, 'byte_math', argument);
    parts.push(argument === '' ? name : `${name} ${argument}`);
  }
  const [unknown] = words.keys();
  if (unknown !== undefined) refuse(`byte_math: Suricata has nothing like ${shown(unknown)}`);
  draft.current.options.push(`byte_math:${parts.join(', ')}`);
  draft.variables.set(result, draft.current);
  draft.atStart = false;
}

function checkCount(key: string, count: string, isString: boolean): void {
  const most = isString ? 10 : 4;
  if (!/^\d+$/.test(count) || Number(count) > most) refuse(`${key}: ${shown(count)} bytes`);
}

function checkName(key: string, name: string): void {
  if (!/^[a-z_]\w*$/i.test(name)) refuse(`${key}: not a name: ${shown(name)}`);
}

// --- Parts ----------------------------------------------------------------------------------------------------------

function ignored(): void {}

function ranged(keyword: string): Emitter {
  return (draft, value) => {
    const printed = printRange(keyword, parseRange(keyword, value));
    if (printed !== undefined) draft.packet.push(printed);
  };
}

function exact(keyword: string): Emitter {
  return (draft, value, key) => {
    if (!/^\d+$/.test(value)) refuse(`${key}: Suricata takes one number here, not ${shown(value)}`);
    draft.packet.push(`${keyword}:${value}`);
  };
}

/** Options in a buffer of their own, without leaving the current one. */
function inBuffer(draft: Draft, buffer: Parameters<typeof select>[1], options: string[]): void {
  const { current, atStart } = draft;
  select(draft, buffer);
  draft.current.options.push(...options);
  Object.assign(draft, { current, atStart });
}

function list(value: string): string[] {
  return value
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

/** Without quotation marks and escapes. */
function unquoted(value: string): string {
  return value.replace(/^"(.*)"$/s, '$1').replaceAll(/\\([;":\\])/g, '$1');
}

function oneOf(key: string, word: string, known: readonly string[]): string {
  return known.includes(word) ? word : refuse(`${key}: Suricata has nothing like ${shown(word)}`);
}
