/** What somebody may have meant by a name with a typing mistake. */
import { distance } from 'fastest-levenshtein';

/** Names are compared up to this length. */
const MAX_LENGTH = 80;

/** Edits that a mistyped name has at most: a third of its letters. Two letters that changed places are two. */
function mostEdits(name: string): number {
  return name.length <= 3 ? 1 : Math.max(2, Math.floor(name.length / 3));
}

function last(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1).slice(0, MAX_LENGTH);
}

/**
 * The known name with the least edit distance; between equals, the one whose last part, behind a dot, is nearest.
 * Undefined where none is near.
 */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  const text = name.slice(0, MAX_LENGTH);
  let best: { name: string; cost: number } | undefined;
  for (const candidate of known) {
    const whole = distance(text, candidate);
    const part = distance(last(text), last(candidate));
    if (whole > mostEdits(text) && part > mostEdits(last(text))) continue;
    // A key in the wrong group (`snaplen` for `capture.snaplen`) is a likelier mistake than as many wrong letters.
    const cost = Math.min(whole, part + 0.5) + whole / 1000;
    if (best === undefined || cost < best.cost) best = { name: candidate, cost };
  }
  return best?.name;
}
