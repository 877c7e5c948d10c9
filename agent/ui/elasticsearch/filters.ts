/** What selects alerts, as queries. */
import { LEVEL_FROM } from '../../events/level.ts';
import { LEVELS, type FacetName, type Level } from '../api.ts';
import type { FieldNames } from '../fields.ts';
import type { AlertQuery, Scope } from '../query.ts';
import { conditionQuery } from './conditions.ts';
import { anyOf, iso, stateFilter, type Query } from './queries.ts';

/** Alerts that may be seen and that all filters select. */
export function selected(field: FieldNames, query: AlertQuery, scope: Scope): Query[] {
  return [...selectedBeforeFacets(field, query, scope), ...facetFilters(field, query)];
}

/** Alerts that may be seen, by time and the query in words. */
export function selectedBeforeFacets(field: FieldNames, query: AlertQuery, scope: Scope): Query[] {
  const where = query.where.is === 'all' ? [] : [conditionQuery(field, query.where)];
  return [...onlyAlerts(field), ...within(field, scope), ...inTime(field, query), ...where];
}

/** Leaves out what else the index has. */
export function onlyAlerts(field: FieldNames): Query[] {
  return field.only === undefined ? [] : [{ term: field.only }];
}

function within(field: FieldNames, scope: Scope): Query[] {
  if (scope === 'all') return [];
  // None of nothing would be all.
  if (scope.size === 0) return [{ match_none: {} }];
  return [anyOf([...scope].map((namespace) => ({ prefix: { [field.origin]: `dpi.${namespace}/` } })))];
}

function inTime(field: FieldNames, { from, to }: AlertQuery): Query[] {
  if (from === undefined && to === undefined) return [];
  const range = {
    ...(from === undefined ? {} : { gte: iso(from) }),
    ...(to === undefined ? {} : { lt: iso(to) }),
  };
  return [{ range: { [field.time]: range } }];
}

export function facetFilters(field: FieldNames, query: AlertQuery, except?: FacetName): Query[] {
  const queries: Query[] = [];
  const add = (name: FacetName, values: readonly string[], toQuery: (value: string) => Query): void => {
    if (name !== except && values.length > 0) queries.push(anyOf(values.map(toQuery)));
  };
  add('namespace', query.namespace, (namespace) => ({ prefix: { [field.origin]: `dpi.${namespace}/` } }));
  add('pod', query.pod, (pod) => podFilter(field, pod));
  add('signature', query.signature, (signature) => signatureFilter(field, signature));
  add('level', query.level, (level) => {
    const { from, to } = levelRange(level as Level);
    return { range: { [field.severity]: { gte: from, ...(to === undefined ? {} : { lt: to }) } } };
  });
  add('tactic', query.tactic, (tactic) =>
    tactic === ''
      ? anyOf([{ term: { [field.tactic]: 'n/a' } }, { bool: { must_not: [{ exists: { field: field.tactic } }] } }])
      : { term: { [field.tactic]: tactic } },
  );
  if (except !== 'state') {
    if (query.state.length === 0) queries.push({ bool: { must_not: [{ term: { [field.dismissed]: true } }] } });
    else add('state', query.state, (state) => stateFilter(field, state));
  }
  return queries;
}

function podFilter(field: FieldNames, pod: string): Query {
  const [namespace = '', name = ''] = pod.split('/');
  const at = (end: { namespace: string; name: string }): Query => ({
    bool: { filter: [{ term: { [end.namespace]: namespace } }, { term: { [end.name]: name } }] },
  });
  return anyOf([at(field.sourcePod), at(field.destinationPod)]);
}

/** @param signature `gid:sid` */
export function signatureFilter(field: FieldNames, signature: string): Query {
  const [gid = '', sid = ''] = signature.split(':');
  return { bool: { filter: [{ term: { [field.sid]: sid } }, { term: { [field.gid]: gid } }] } };
}

export function levelRange(level: Level): { from: number; to?: number } {
  const above = LEVELS[LEVELS.indexOf(level) - 1];
  return { from: LEVEL_FROM[level], ...(above === undefined ? {} : { to: LEVEL_FROM[above] }) };
}
