/** What could be typed next: fields, and values that alerts have. */
import { useEffect, useId, useState } from 'preact/hooks';
import { LEVELS, STATES, VALUE_FIELDS, type FacetValue, type ValueField } from '../../agent/ui/api.ts';
import { FIELDS } from '../../agent/ui/language/fields.ts';
import { quoted } from '../../agent/ui/language/write.ts';
import { useAnswer } from './server.ts';
import { grouped } from './text.tsx';
import { queryOf, type Location } from './url.ts';

const MOST = 8;
const TYPING_MILLIS = 150;

export interface Suggestion {
  /** The query with it. */
  text: string;
  shown: string;
  about: string;
}

export interface Suggestions {
  /** Of the list. */
  id: string;
  items: readonly Suggestion[];
  active: number | undefined;
  take: (item: Suggestion) => void;
  /** @returns whether the key was for the list. */
  press: (event: KeyboardEvent) => boolean;
}

/** Fields whose values are those of another one. */
const VALUES_OF: Readonly<Record<string, ValueField>> = {
  ip: 'source.ip',
  pod: 'destination.pod',
  namespace: 'destination.namespace',
  port: 'destination.port',
};
const FIXED: Readonly<Record<string, readonly string[]>> = { severity: LEVELS, state: STATES };

export function useSuggestions(text: string, place: Location, change: (text: string) => void): Suggestions {
  const id = useId();
  const [active, setActive] = useState<number>();
  const last = lastOf(text);
  const values = useAnswer<FacetValue[]>(usePause(pathOf(last, place.params)));
  const items = last === undefined ? [] : last.field === undefined ? fieldsLike(last) : valuesLike(last, values.data);
  useEffect(() => setActive(undefined), [text]);
  const take = (item: Suggestion): void => change(item.text);
  return {
    id,
    items,
    active,
    take,
    press(event) {
      if (items.length === 0) return false;
      const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (by !== undefined) {
        const from = active ?? (by === 1 ? -1 : items.length);
        setActive((from + by + items.length) % items.length);
      } else {
        const item = active === undefined ? undefined : items[active];
        if (item === undefined || (event.key !== 'Enter' && event.key !== 'Tab')) return false;
        take(item);
      }
      event.preventDefault();
      return true;
    },
  };
}

interface Last {
  /** What is before it. */
  before: string;
  /** Undefined: a word, which may begin a field. */
  field: string | undefined;
  word: string;
}

/** What is typed last; undefined: nothing that can go on. */
function lastOf(text: string): Last | undefined {
  const [, before = '', field, word = ''] =
    /^(.*?(?:^|[\s(]))(?:([a-z][a-z.0-9]*)\s*:\s*)?([^\s()":]*)$/is.exec(text) ?? [];
  if (field === undefined && !/^[a-z]/i.test(word)) return undefined;
  return { before, field: field?.toLowerCase(), word };
}

function pathOf(last: Last | undefined, params: URLSearchParams): string | undefined {
  const name = last?.field ?? '';
  const of = VALUES_OF[name] ?? VALUE_FIELDS.find((field) => field === name);
  if (last === undefined || of === undefined) return undefined;
  const others = new URLSearchParams(queryOf(params));
  others.delete('q');
  others.set('of', of);
  if (last.word !== '') others.set('prefix', last.word);
  return `/api/values?${others}`;
}

/** The last one, when nothing new came for a moment. */
function usePause(path: string | undefined): string | undefined {
  const [paused, setPaused] = useState(path);
  useEffect(() => {
    const timer = setTimeout(() => setPaused(path), TYPING_MILLIS);
    return () => clearTimeout(timer);
  }, [path]);
  return path === undefined ? undefined : paused;
}

function fieldsLike({ before, word }: Last): Suggestion[] {
  return [...FIELDS]
    .filter(([name]) => name.startsWith(word.toLowerCase()))
    .slice(0, MOST)
    .map(([name, { about, example }]) => ({ text: `${before}${name}: `, shown: example, about }));
}

function valuesLike({ before, field = '', word }: Last, answered: readonly FacetValue[] | undefined): Suggestion[] {
  const fixed = FIXED[field]?.map((value) => ({ value, count: undefined }));
  return (fixed ?? answered ?? [])
    .filter(({ value }) => value.toLowerCase().startsWith(word.toLowerCase()))
    .slice(0, MOST)
    .map(({ value, count }) => ({
      text: `${before}${field}: ${quoted(value)} `,
      shown: value,
      about: count === undefined ? '' : grouped(count),
    }));
}
