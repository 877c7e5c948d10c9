/**
 * Adds rule sets to `ruleSets` of a configuration file, and leaves all else as it is: comments, order, quotes.
 *
 * Not promised: the same indentation of lists, nor blanks at the ends of lines.
 */
import { isAlias, isDocument, isSeq, parseDocument } from 'yaml';
import { isDeepStrictEqual } from 'node:util';
import { isRecord } from '../files/record.ts';

/** Says why a file can't be changed by a program. */
export class EditError extends Error {}

/**
 * @param inForce What counts where the file does not name any.
 * @returns the new text. @throws EditError
 */
export function withRuleSets(text: string, names: readonly string[], inForce: readonly string[]): string {
  const document = parseDocument(text);
  if (!isDocument(document) || document.errors.length > 0) throw new EditError('it is not valid YAML');
  const before: unknown = document.toJS();
  const list = document.get('ruleSets', true);
  if (isAlias(list)) throw new EditError('its ruleSets is an alias');
  const known = isSeq(list) ? list.toJSON() : undefined;
  const had: readonly unknown[] = Array.isArray(known) ? known : inForce;
  const wanted = [...had, ...names.filter((name) => !had.includes(name))];
  if (isSeq(list)) for (const name of wanted.slice(had.length)) list.add(document.createNode(name));
  else document.set('ruleSets', document.createNode(wanted, { flow: true }));
  const after = document.toString({ lineWidth: 0, flowCollectionPadding: !/\[\S/.test(text) });
  const read: unknown = parseDocument(after).toJS();
  const expected = { ...(isRecord(before) ? before : {}), ruleSets: wanted };
  if (!isDeepStrictEqual(read, expected)) throw new EditError('it would not say the same');
  return after;
}
