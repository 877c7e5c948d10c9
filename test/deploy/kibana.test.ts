/** Kibana's saved objects use fields that the events' indices have. */
import { describe, expect, test } from '@jest/globals';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { indexBody, namesOf, type Schema } from '../../agent/ship/elasticsearch/template.ts';
import { DEPLOY } from './support.ts';

interface SavedObject {
  type: string;
  id: string;
  attributes: Record<string, unknown>;
  references: { name: string; type: string; id: string }[];
}

interface Mapping {
  type?: string;
  index?: boolean;
  properties?: Record<string, Mapping>;
  fields?: Record<string, Mapping>;
}

const SCHEMAS: Schema[] = ['calico', 'ecs'];

test('there is a file for each schema', () => {
  expect(readdirSync(join(DEPLOY, 'kibana')).toSorted()).toEqual(SCHEMAS.map((schema) => `${schema}.ndjson`));
});

describe.each(SCHEMAS)('%s.ndjson', (schema) => {
  const objects = readFileSync(join(DEPLOY, 'kibana', `${schema}.ndjson`), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as SavedObject);
  const { mappings } = indexBody(namesOf('cluster', schema)) as { mappings: Mapping };
  const known = fieldsOf(mappings);
  const byKind = (kind: string): SavedObject[] => objects.filter(({ type }) => type === kind);

  test('has a data view over the indices of all clusters, a search and a dashboard', () => {
    const [view] = byKind('index-pattern');
    const pattern = new RegExp(`^${String(view?.attributes['title']).replaceAll('.', '\\.').replaceAll('*', '.*')}$`);
    expect(view?.id).toBe('dpi-agent-alerts');
    expect(namesOf('prod', schema).index).toMatch(pattern);
    expect(known.get(String(view?.attributes['timeFieldName']))?.type).toMatch(/^date/);
    expect(byKind('search')).toHaveLength(1);
    expect(byKind('dashboard')).toHaveLength(1);
  });

  test('each reference leads to an object of the file, and each panel has one', () => {
    const there = new Set(objects.map(({ type, id }) => `${type} ${id}`));
    expect(there.size).toBe(objects.length);
    for (const { references } of objects)
      for (const { type, id } of references) expect(there).toContain(`${type} ${id}`);
    const [dashboard] = byKind('dashboard');
    const panels = JSON.parse(String(dashboard?.attributes['panelsJSON'])) as {
      panelIndex: string;
      panelRefName: string;
    }[];
    expect(dashboard?.references.map(({ name }) => name)).toEqual(
      panels.map(({ panelIndex, panelRefName }) => `${panelIndex}:${panelRefName}`),
    );
  });

  test('every field is in the mapping, and can be counted where it is counted', () => {
    const shown = byKind('search').flatMap(({ attributes }) => [
      ...(attributes['columns'] as string[]),
      ...(attributes['sort'] as string[][]).map(([name]) => name),
    ]);
    const counted = byKind('visualization').flatMap(({ attributes }) => {
      const { aggs } = JSON.parse(String(attributes['visState'])) as { aggs: { params: { field?: string } }[] };
      return aggs.flatMap(({ params }) => params.field ?? []);
    });
    const asked = objects.flatMap(({ attributes }) => {
      const meta = (attributes['kibanaSavedObjectMeta'] ?? {}) as { searchSourceJSON?: string };
      const { query } = JSON.parse(meta.searchSourceJSON ?? '{}') as { query?: { query: string } };
      return [...(query?.query ?? '').matchAll(/([\w.@]+) *:/g)].map((match) => match[1]);
    });
    expect(counted.length).toBeGreaterThan(6);
    expect(asked.length).toBeGreaterThan(6);
    expect([...shown, ...counted, ...asked].filter((name) => !known.has(name ?? ''))).toEqual([]);
    expect(counted.filter((name) => known.get(name)?.type === 'text' || known.get(name)?.index === false)).toEqual([]);
  });
});

function fieldsOf(mapping: Mapping, path = ''): Map<string, Mapping> {
  const found = new Map<string, Mapping>();
  for (const [name, inner] of [...Object.entries(mapping.properties ?? {}), ...Object.entries(mapping.fields ?? {})]) {
    const full = path === '' ? name : `${path}.${name}`;
    if (inner.type !== undefined) found.set(full, inner);
    for (const [further, leaf] of fieldsOf(inner, full)) found.set(further, leaf);
  }
  return found;
}
