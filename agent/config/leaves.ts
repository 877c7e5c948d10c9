/**
 * The kinds of value that the configuration has. Each takes what YAML gives (numbers, booleans, lists) and what an
 * environment variable gives (text), and carries two texts: what it expects, for errors and tables, and what it is for.
 */
import * as z from 'zod';

/** Adds the two texts. Goes outside of defaults, so that a walk of the schema finds it first. */
export function about<T extends z.ZodType>(schema: T, expected: string, description: string): T {
  return schema.meta({ expected, description });
}

const SIZE = /^(\d{1,15})\s*(?:([kmg])(?:i?b)?|b)?$/i;
const POWER: Record<string, number> = { k: 1, m: 2, g: 3 };

/** Bytes in `64MiB`, `64M`, `512k`, `4096`, 4096; k, M and G are powers of 1024. Undefined when it is none of these. */
export function parseSize(value: unknown): number | undefined {
  if (typeof value === 'number') return value;
  // MB and kB mean a power of 1000 to some and of 1024 to others.
  const match = typeof value === 'string' && !/^\d+\s*[kmg]b$/i.test(value.trim()) ? SIZE.exec(value.trim()) : null;
  return match ? Number(match[1]) * 1024 ** (POWER[match[2]?.toLowerCase() ?? ''] ?? 0) : undefined;
}

/** `64MiB`, `512KiB`, `1000`. */
export function formatSize(bytes: number): string {
  for (const [unit, power] of [
    ['GiB', 3],
    ['MiB', 2],
    ['KiB', 1],
  ] as const) {
    if (bytes >= 1024 ** power && bytes % 1024 ** power === 0) return `${bytes / 1024 ** power}${unit}`;
  }
  return String(bytes);
}

const DURATION = /^(\d{1,12}(?:\.\d{1,6})?)\s*(ms|s|m|h|d)$/;
const MILLIS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds in `250ms`, `10s`, `5m`, `1h`, `7d`, `250`, 250. Undefined when it is none of these. */
export function parseDuration(value: unknown): number | undefined {
  if (typeof value === 'number') return value;
  if (typeof value !== 'string') return undefined;
  if (/^\d{1,15}$/.test(value.trim())) return Number(value.trim());
  const match = DURATION.exec(value.trim());
  const unit = match && MILLIS[match[2] ?? ''];
  return match && unit ? Number(match[1]) * unit : undefined;
}

export const integer = (min: number, max: number) =>
  z.preprocess(
    (value) => (typeof value === 'string' && /^-?\d{1,15}$/.test(value.trim()) ? Number(value.trim()) : value),
    z.int().min(min).max(max),
  );

export const bytes = (min: string, max: string) =>
  z.preprocess(
    (value) => parseSize(value) ?? value,
    z
      .int()
      .min(parseSize(min) ?? 0)
      .max(parseSize(max) ?? 0),
  );

export const millis = (min: number, max: number) =>
  z.preprocess((value) => parseDuration(value) ?? value, z.int().min(min).max(max));

const BOOLEANS = new Map([
  ...['true', 'yes', 'on', '1'].map((word) => [word, true] as const),
  ...['false', 'no', 'off', '0'].map((word) => [word, false] as const),
]);

export const boolean = () =>
  z.preprocess(
    (value) => (typeof value === 'string' ? (BOOLEANS.get(value.trim().toLowerCase()) ?? value) : value),
    z.boolean(),
  );

/** A list; as text, its items with commas between them, or a JSON list for items that hold commas. */
export const list = <T extends z.ZodType>(item: T) => z.preprocess(splitList, z.array(item).max(4096));

function splitList(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  const text = value.trim();
  if (text === '') return [];
  if (!text.startsWith('[')) return text.split(',').map((item) => item.trim());
  try {
    return JSON.parse(text);
  } catch {
    return value;
  }
}

/** Text that can be an argument or a path: not empty, no control characters. */
export const text = (max = 4096) =>
  z
    .string()
    .min(1)
    .max(max)
    .regex(/^\P{Cc}*$/u);

/** RFC 1123 label: a namespace's name. */
export const label = () =>
  z
    .string()
    .max(63)
    .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** RFC 1123 subdomain: the name of a pod or of a resource. */
export const subdomain = () => z.string().max(253).regex(SUBDOMAIN);

/** `<namespace>/<name>`. */
export const qualified = () =>
  z.string().refine((value) => {
    const [namespace, name, ...rest] = value.split('/');
    return rest.length === 0 && label().safeParse(namespace).success && subdomain().safeParse(name).success;
  });
