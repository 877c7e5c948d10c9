/** What the page shows is in its address: it can be kept, sent, and gone back to. */
import { useEffect, useState } from 'preact/hooks';
import type { FacetName, Range } from '../../agent/ui/api.ts';

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

export function setRange(params: URLSearchParams, range: Range): void {
  params.delete('from');
  params.delete('to');
  if (range === '24h') params.delete('range');
  else params.set('range', range);
}

export function setSpan(params: URLSearchParams, from: number, to: number): void {
  params.set('from', new Date(from).toISOString());
  params.set('to', new Date(to).toISOString());
}
