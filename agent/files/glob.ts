/** Globs, as the page, too, compares texts with them: nothing of Node is here. */

/** @param glob The parts between its `*`. Each takes time linear in the text. */
export function isLike(glob: readonly string[], text: string): boolean {
  const [first = '', ...parts] = glob;
  const last = parts.pop();
  if (last === undefined) return text === first;
  if (text.length < first.length + last.length || !text.startsWith(first) || !text.endsWith(last)) return false;
  let at = first.length;
  const end = text.length - last.length;
  for (const part of parts) {
    const index = text.indexOf(part, at);
    if (index === -1 || index + part.length > end) return false;
    at = index + part.length;
  }
  return true;
}
