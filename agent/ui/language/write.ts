/** Writes queries, for values that somebody points at. */

/** A value as it is, whatever is in it. */
export function quoted(value: string): string {
  const plain = /^[\w.:/-]+$/.test(value) && !/^(?:and|or|not)$/i.test(value);
  return plain ? value : `"${value.replaceAll(/["\\]/g, String.raw`\$&`)}"`;
}

/** The query, and that a field has this value, or has it not. What is `or` stays together. */
export function narrowed(query: string, field: string, value: string, not = false): string {
  const added = `${not ? 'not ' : ''}${field}: ${quoted(value)}`;
  const before = query.trim();
  if (before === '') return added;
  if (before === added || before.endsWith(` and ${added}`)) return before;
  return `${/\bor\b/i.test(before) ? `(${before})` : before} and ${added}`;
}
