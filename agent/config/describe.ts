/** The schema as a table, for the documentation and for --help, and as names, for the loader. */
import * as z from 'zod';
import { schema } from './schema.ts';

export interface ConfigRow {
  /** `engine.searchMethod`; keys of a list's entries as `endpoints[].pod`. */
  key: string;
  /** Absent for what only the file and flags can hold. */
  env?: string;
  /** What is expected: "an integer from 1 to 64". */
  type: string;
  /** As one would write it in YAML; empty when there is none. */
  default: string;
  description: string;
}

/** Groups that can be a list in the file: it is this key of theirs. */
export const LIST_FORMS: Readonly<Record<string, string>> = { sinks: 'list' };

/** Of a key in such a list, the name that it has in the file: `sinks[0].name`. */
export function asWritten(key: string): string {
  for (const [group, list] of Object.entries(LIST_FORMS)) {
    const inner = `${group}.${list}[`;
    if (key.startsWith(inner)) return `${group}[${key.slice(inner.length)}`;
  }
  return key;
}

export const ENV_PREFIX = 'DPI_AGENT_';

/** `engine.searchMethod` → `DPI_AGENT_ENGINE_SEARCH_METHOD`. */
export function envName(key: string): string {
  return ENV_PREFIX + key.replaceAll('.', '_').replaceAll(/[A-Z]/g, '_$&').toUpperCase();
}

/** Every key, in the schema's order. */
export function describeConfig(): ConfigRow[] {
  return rows(schema, '');
}

function rows(group: z.ZodObject, prefix: string): ConfigRow[] {
  return Object.entries(group.shape).flatMap(([name, member]) => {
    const key = prefix + name;
    const { inner, expected, description, fallback } = facts(member);
    // One that says what it expects has the keys of another.
    if (inner instanceof z.ZodObject && expected === undefined) return rows(inner, `${key}.`);
    const entries = inner instanceof z.ZodArray && inner.element instanceof z.ZodObject ? inner.element : undefined;
    const row: ConfigRow = { key, type: expected ?? '', default: fallback, description: description ?? '' };
    if (entries === undefined && !key.includes('[]')) row.env = envName(key);
    return [row, ...(entries ? rows(entries, asWritten(`${key}[].`)) : [])];
  });
}

interface Facts {
  /** The schema without defaults, `optional` and conversions around it. */
  inner: z.core.$ZodType;
  expected?: string;
  description?: string;
  fallback: string;
}

export function facts(member: z.core.$ZodType): Facts {
  const known: Facts = { inner: member, fallback: '' };
  for (;;) {
    const { inner } = known;
    const { expected, description } = z.globalRegistry.get(inner) ?? {};
    if (typeof expected === 'string') known.expected ??= expected;
    if (description !== undefined) known.description ??= description;
    if (inner instanceof z.ZodPrefault) {
      known.fallback = written(inner.def.defaultValue);
      known.inner = inner.def.innerType;
    } else if (inner instanceof z.ZodOptional) {
      known.inner = inner.def.innerType;
    } else if (inner instanceof z.ZodPipe) {
      known.inner = inner.def.out;
    } else {
      return known;
    }
  }
}

function written(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
