/**
 * Knows an engine's `threshold.config` where a policy is expected, and says what each of its lines is in a policy.
 *
 * Formats: Snort 2's `threshold.conf` and Suricata's `threshold.config`, one of `suppress`, `threshold`,
 * `event_filter`, `rate_filter` a line, and Snort 3's tables in Lua of the same names.
 */
import { readFileSync, statSync } from 'node:fs';
import { decodeRules } from '../rulesets/encoding.ts';

const MAX_BYTES = 1 << 20;
const LINE = /^\s*(suppress|threshold|event_filter|rate_filter)\s+((?:gen_id|sig_id)\b.*)$/;
const LUA = /^\s*(suppress|event_filter|rate_filter)\s*=\s*$|^\s*(suppress|event_filter|rate_filter)\s*=\s*\{/;

/** An error for each such line, as a policy's errors are: `file:line: what`. None for what is not such a file. */
export function thresholdLines(file: string): string[] {
  const errors: string[] = [];
  for (const [index, line] of textOf(file).split('\n').entries()) {
    const [, kind, rest] = LINE.exec(line) ?? [];
    const [lua] = LUA.exec(line) ?? [];
    if (kind !== undefined && rest !== undefined) errors.push(`${file}:${index + 1}: ${inPolicy(kind, rest)}`);
    else if (lua !== undefined) errors.push(`${file}:${index + 1}: is Lua of Snort's: the policy is YAML, ${DOCS}`);
  }
  return errors;
}

const DOCS = 'see docs/rule-tuning.md';

function textOf(file: string): string {
  try {
    const decoded = statSync(file).size > MAX_BYTES ? undefined : decodeRules(readFileSync(file));
    return decoded !== undefined && 'text' in decoded ? decoded.text : '';
  } catch {
    // Whoever reads it as a policy says why it can't be read.
    return '';
  }
}

function inPolicy(kind: string, rest: string): string {
  const given = new Map<string, string>();
  for (const part of rest.replace(/#.*$/, '').split(/,(?![^[]*\])/)) {
    const [, key = '', value = ''] = /^\s*(\w+)\s+(.*?)\s*$/.exec(part) ?? [];
    if (key !== '') given.set(key, value);
  }
  const entry = kind === 'suppress' ? suppression(given) : kind === 'rate_filter' ? undefined : threshold(given);
  const where = kind === 'suppress' ? 'suppress' : 'threshold';
  return entry === undefined
    ? `is a line of an engine's threshold.config, and the policy has nothing like it, ${DOCS}`
    : `is a line of an engine's threshold.config: in the policy it is, below ${where}:  - { ${entry} }`;
}

function suppression(given: ReadonlyMap<string, string>): string | undefined {
  const signature = signatureOf(given);
  const ip = given.get('ip')?.replaceAll(/\s+/g, '');
  if (signature === undefined && ip === undefined) return undefined;
  const side = given.get('track') === 'by_dst' ? 'destination' : 'source';
  const address = ip === undefined ? [] : [`${side}: ${ip.startsWith('[') ? ip : JSON.stringify(ip)}`];
  return [...(signature === undefined ? [] : [signature]), ...address].join(', ');
}

function threshold(given: ReadonlyMap<string, string>): string | undefined {
  const signature = signatureOf(given);
  const [count, seconds, type] = ['count', 'seconds', 'type'].map((key) => given.get(key));
  if (signature === undefined || count === undefined || seconds === undefined || type === undefined) return undefined;
  const track = { by_src: 'by_source', by_dst: 'by_pod' }[given.get('track') ?? ''] ?? 'by_rule';
  return `${signature}, count: ${count}, seconds: ${seconds}, track: ${track}, type: ${type}`;
}

/** Signature 0 is all of a generator, which the policy does not have. */
function signatureOf(given: ReadonlyMap<string, string>): string | undefined {
  const [gid = '1', sid = '0'] = ['gen_id', 'sig_id'].map((key) => given.get(key));
  return sid === '0' ? undefined : `signature: ${gid === '0' ? sid : JSON.stringify(`${gid}:${sid}`)}`;
}
