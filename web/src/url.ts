/** What the page shows is in its address: it can be kept, sent, and gone back to. */
import { useEffect, useState } from 'preact/hooks';
import type { FacetName, Range } from '../../agent/ui/api.ts';
import { asksForState as isAboutState } from '../../agent/ui/language/condition.ts';
import { LanguageError, parseLanguage } from '../../agent/ui/language/parse.ts';
import { narrowed } from '../../agent/ui/language/write.ts';
import { CLUSTER } from './cluster.ts';

export const FILTERS = ['namespace', 'pod', 'signature', 'level', 'tactic', 'state'] as const satisfies FacetName[];
const QUERY = ['range', 'from', 'to', 'q', ...FILTERS];

export interface Location {
  params: URLSearchParams;
  /** @param replace Without an entry of its own to go back to. */
  change(edit: (params: URLSearchParams) => void, replace?: boolean): void;
}

export function useLocation(): Location {
  const [params, setParams] = useState(() => new URLSearchParams(location.search));
  useEffect(() => {
    const read = (): void => setParams(new URLSearchParams(location.search));
    addEventListener('popstate', read);
    return () => removeEventListener('popstate', read);
  }, []);
  return {
    params,
    change(edit, replace = false) {
      const next = new URLSearchParams(location.search);
      edit(next);
      if (CLUSTER !== undefined) next.set('cluster', CLUSTER);
      const path = next.size === 0 ? location.pathname : `?${next}`;
      if (replace) history.replaceState(null, '', path);
      else history.pushState(null, '', path);
      setParams(next);
    },
  };
}

/** The part of the address that selects alerts, as the server takes it. */
export function queryOf(params: URLSearchParams): string {
  const query = new URLSearchParams();
  for (const [name, value] of params) if (QUERY.includes(name)) query.append(name, value);
  query.sort();
  return query.toString();
}

export function toggle(params: URLSearchParams, name: FacetName, value: string): void {
  const values = params.getAll(name);
  params.delete(name);
  for (const kept of values.filter((other) => other !== value)) params.append(name, kept);
  if (!values.includes(value)) params.append(name, value);
}

export function clearFilters(params: URLSearchParams): void {
  for (const name of ['q', ...FILTERS]) params.delete(name);
}

/** Also the time: nothing of it is left that a server could refuse. */
export function clearAll(params: URLSearchParams): void {
  clearFilters(params);
  for (const name of ['range', 'from', 'to', 'sort', 'group']) params.delete(name);
}

/** Only alerts with this value of a field, or only those without. */
export function narrow(params: URLSearchParams, field: string, value: string, not: boolean): void {
  params.set('q', narrowed(params.get('q') ?? '', field, value, not));
  params.delete('group');
}

/** To alerts whose end is this one's. @param value Empty: no pod's, or not known whose. */
export function narrowEnd(params: URLSearchParams, field: string, value: string): void {
  if (value !== '') return narrow(params, field, value, false);
  const before = (params.get('q') ?? '').trim();
  const added = `not ${field}: *`;
  params.set('q', before === '' ? added : `(${before}) and ${added}`);
  return params.delete('group');
}

/** Why a query in words can't be read; undefined: it can. */
export function problemOf(q: string): LanguageError | undefined {
  try {
    parseLanguage(q);
    return undefined;
  } catch (error) {
    if (error instanceof LanguageError) return error;
    throw error;
  }
}

/** Whether the query in words asks for the state of alerts. */
export function asksForState(params: URLSearchParams): boolean {
  const q = params.get('q') ?? '';
  return problemOf(q) === undefined && isAboutState(parseLanguage(q));
}

/** The time goes back to the range that was chosen before a part of it was. */
export function clearSpan(params: URLSearchParams): void {
  params.delete('from');
  params.delete('to');
}

export function setRange(params: URLSearchParams, range: Range): void {
  clearSpan(params);
  if (range === '24h') params.delete('range');
  else params.set('range', range);
}

export function setSpan(params: URLSearchParams, from: number, to: number): void {
  params.set('from', new Date(from).toISOString());
  params.set('to', new Date(to).toISOString());
}
