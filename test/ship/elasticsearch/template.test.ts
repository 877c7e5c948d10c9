import { expect, test } from '@jest/globals';
import {
  differences,
  indexBody,
  namesOf,
  templateBody,
  templateDifferences,
} from '../../../agent/ship/elasticsearch/template.ts';

const names = namesOf('prod');
const wanted = templateBody(names);
/** As Elasticsearch gives it back. */
const stored = (): unknown => {
  const copy = JSON.parse(JSON.stringify(wanted)) as Record<string, unknown>;
  const template = copy['template'] as Record<string, unknown>;
  template['settings'] = {
    index: { number_of_shards: '1', auto_expand_replicas: '0-1', mapping: { total_fields: { limit: '300' } } },
  };
  (template['mappings'] as Record<string, unknown>)['dynamic'] = 'false';
  copy['composed_of'] = [];
  return copy;
};

test("names are those of Calico's indices", () => {
  expect(namesOf('cluster')).toEqual({
    schema: 'calico',
    index: 'tigera_secure_ee_events.cluster.lma',
    alias: 'tigera_secure_ee_events.cluster.',
    template: 'dpi-agent-events.cluster',
  });
});

test('what Elasticsearch writes otherwise is no difference', () => {
  expect(templateDifferences(wanted, stored())).toEqual([]);
  expect(
    differences(
      { settings: { index: { a: 1, mapping: { limit: 2 } } } },
      { settings: { a: '1', 'mapping.limit': '2' } },
      true,
    ),
  ).toEqual([]);
});

test.each<[string, object, string[]]>([
  ['another priority', { priority: 1 }, ['priority']],
  ['a pattern more', { index_patterns: [`${names.index}*`, 'x*'] }, ['index_patterns']],
  ['a component', { composed_of: ['x'] }, ['composed_of']],
  [
    'another alias',
    { template: { ...indexBody(names), aliases: { x: {} } } },
    [`template.aliases.${names.alias}`, 'template.aliases.x'],
  ],
  [
    'a setting more',
    { template: { ...indexBody(names), settings: { ...indexBody(names).settings, blocks: { write: true } } } },
    ['template.settings.index.blocks.write'],
  ],
])('a template with %s differs', (_, change, paths) => {
  expect(templateDifferences(wanted, { ...(stored() as object), ...change })).toEqual(paths);
});

test('a template whose content is gone differs in all of it', () => {
  expect(templateDifferences(wanted, { ...(stored() as object), template: undefined }).length).toBeGreaterThan(50);
});

test('an index may map more than is wanted', () => {
  expect(differences({ a: { type: 'ip' } }, { a: { type: 'ip' }, b: { type: 'ip' } }, false)).toEqual([]);
  expect(differences({ a: { type: 'ip' } }, { b: { type: 'ip' } }, false)).toEqual(['a.type']);
});

test('no object of the mapping takes further fields', () => {
  const objects: unknown[] = [];
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    if ('properties' in value) objects.push((value as { dynamic?: unknown }).dynamic);
    Object.values(value).forEach(visit);
  };
  visit(indexBody(names).mappings);
  expect(objects.length).toBeGreaterThan(5);
  expect(new Set(objects)).toEqual(new Set([false]));
});
