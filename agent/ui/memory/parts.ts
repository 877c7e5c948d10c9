/** Parts that many rows have in common: one copy of each, by number. */

export interface Parts<Part> {
  /** By number. */
  readonly values: readonly Part[];
  /** Of what tells them apart. */
  readonly characters: number;
  /** @param texts What tells it from others, always as many. @param make Called where it is a new one. */
  numberOf(texts: readonly string[], make: () => Part): number;
  /** A part of another collection. */
  copyOf(parts: Parts<Part>, number: number): number;
  readonly keys: readonly string[];
}

export function createParts<Part>(): Parts<Part> {
  const values: Part[] = [];
  const keys: string[] = [];
  const numbers = new Map<string, number>();
  let characters = 0;
  const add = (key: string, part: Part): number => {
    characters += key.length;
    numbers.set(key, values.length);
    keys.push(key);
    return values.push(part) - 1;
  };
  return {
    values,
    keys,
    get characters() {
      return characters;
    },
    numberOf(texts, make) {
      const key = keyOf(texts);
      return numbers.get(key) ?? add(key, make());
    },
    copyOf(parts, number) {
      const key = parts.keys[number] ?? '';
      return numbers.get(key) ?? add(key, parts.values[number] as Part);
    },
  };
}

/** With their lengths: whatever is in a text, it is none of the next one. */
function keyOf(texts: readonly string[]): string {
  let key = '';
  for (const text of texts) key += `${text.length}:${text}`;
  return key;
}
