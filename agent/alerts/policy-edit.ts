/**
 * Adds entries to the text of a policy, and takes them out; all else stays as it is: comments, order, quotes.
 *
 * Not promised: the same indentation of lists, nor blanks at the ends of lines.
 */
import { isAlias, isCollection, isMap, isSeq, parseDocument, type Document } from 'yaml';
import { isDeepStrictEqual } from 'node:util';
import { isRecord } from '../files/record.ts';
import { parsePolicy } from './policy-file.ts';

/** Parts that make alerts fewer. */
export const QUIET_PARTS = ['suppress', 'threshold'] as const;
export type QuietPart = (typeof QUIET_PARTS)[number];

export interface WrittenEntry {
  part: QuietPart;
  name: string;
  /** As it is written. */
  says: Readonly<Record<string, unknown>>;
  /** Its `until` is over. */
  over: boolean;
}

/** Says why a policy can't be changed by a program. */
export class PolicyEditError extends Error {}

/** @param where What errors call the text. @throws PolicyEditError where it is no policy. */
export function entriesOf(where: string, text: string, now: number = Date.now()): WrittenEntry[] {
  const policy = parsePolicy(where, text, now);
  if ('errors' in policy) throw new PolicyEditError(policy.errors.join('\n'));
  const over = new Set(policy.expired.map(({ name }) => name));
  const written = fieldsOf(parseDocument(text));
  return QUIET_PARTS.flatMap((part) =>
    policy[part].map(({ name }, index) => ({
      part,
      name,
      says: listOf(written[part])[index] ?? {},
      over: over.has(name),
    })),
  );
}

/** @throws PolicyEditError where it would be no policy. */
export function withEntry(
  where: string,
  text: string,
  part: QuietPart,
  entry: Readonly<Record<string, unknown>>,
): string {
  const document = documentOf(where, text);
  const list = document.get(part, true);
  const before = fieldsOf(document);
  if (isSeq(list)) list.add(document.createNode(entry));
  else document.set(part, document.createNode([entry]));
  return checked(where, text, document, { ...before, [part]: [...listOf(before[part]), entry] });
}

/** @returns undefined where there is no such entry. @throws PolicyEditError */
export function withoutEntry(where: string, text: string, name: string): string | undefined {
  const found = entriesOf(where, text).find((entry) => entry.name === name);
  if (found === undefined) return undefined;
  const { part } = found;
  const document = documentOf(where, text);
  const before = fieldsOf(document);
  const index = entriesOf(where, text)
    .filter((entry) => entry.part === part)
    .findIndex((entry) => entry.name === name);
  const left = listOf(before[part]).filter((_, at) => at !== index);
  if (left.length === 0) document.delete(part);
  else document.deleteIn([part, index]);
  const { [part]: _, ...others } = before;
  return checked(where, text, document, left.length === 0 ? others : { ...others, [part]: left });
}

function documentOf(where: string, text: string): Document {
  const document = parseDocument(text);
  if (document.errors.length > 0) throw new PolicyEditError(`${where} is not valid YAML`);
  for (const part of QUIET_PARTS)
    if (isAlias(document.get(part, true))) throw new PolicyEditError(`${where}: ${part} is an alias: edit it by hand`);
  // An empty file, and one of comments only.
  if (!isMap(document.contents)) {
    if (isCollection(document.contents)) throw new PolicyEditError(`${where} is not a mapping of keys to values`);
    const empty = document.createNode({});
    empty.commentBefore = document.comment ?? null;
    document.comment = null;
    document.contents = empty as unknown as typeof document.contents;
  }
  return document;
}

/** @param before Whose way to write lists is kept. */
function checked(where: string, before: string, document: Document, expected: Record<string, unknown>): string {
  const format = { lineWidth: 0, flowCollectionPadding: !/\[\S/.test(before) };
  const text = Object.keys(expected).length === 0 ? commentsOf(document) : document.toString(format);
  const policy = parsePolicy(where, text);
  if ('errors' in policy) throw new PolicyEditError(policy.errors.join('\n'));
  if (!isDeepStrictEqual(fieldsOf(parseDocument(text)), expected))
    throw new PolicyEditError(`${where}: it would not say the same: edit it by hand`);
  return text;
}

function commentsOf(document: Document): string {
  const comments = [document.commentBefore, document.contents?.commentBefore, document.comment];
  return comments.flatMap((text) => (text ? [`${text.replaceAll(/^/gm, '#')}\n`] : [])).join('');
}

function fieldsOf(document: Document): Record<string, unknown> {
  const value: unknown = document.toJS();
  return isRecord(value) ? value : {};
}

function listOf(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter(isRecord) : [];
}
