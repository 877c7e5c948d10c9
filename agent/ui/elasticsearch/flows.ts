/** Who attacks whom: alerts counted by the namespaces of both ends, and by source. */
import type { Flows, Pair, Talker } from '../api.ts';
import type { FieldNames } from '../fields.ts';
import { shownFlows, sumOf, sumPairs } from '../counting.ts';
import type { AlertQuery, Scope } from '../query.ts';
import { fields, text, type Fields } from '../row.ts';
import { PAIR_ENDS, TALKERS } from '../source.ts';
import type { AlertIndex } from './alert-index.ts';
import { bucketsOf, levelCounts, levels, type Aggregations } from './counts.ts';
import { selected } from './filters.ts';

/** Namespaces that have a pod of one name. */
const SAME_NAMES = 3;

export async function flowsOf(
  { field, search }: AlertIndex,
  query: AlertQuery,
  scope: Scope,
  signal: AbortSignal,
): Promise<Flows> {
  const filter = selected(field, query, scope);
  const answer = await search({ size: 0, query: { bool: { filter } }, aggs: aggregationsOf(field) }, signal);
  const { pairs, talkers, edges, total } = fields(answer.aggregations);
  const all = sumOf(levelCounts(total));
  return shownFlows(bucketsOf(pairs).flatMap(pairsOf), bucketsOf(talkers).map(talkerOf), edgesOf(edges), all);
}

function aggregationsOf(field: FieldNames): Aggregations {
  const { sourcePod, destinationPod } = field;
  const level = levels(field);
  return {
    pairs: {
      terms: { field: sourcePod.namespace, size: PAIR_ENDS, missing: '-' },
      aggs: {
        destination: { terms: { field: destinationPod.namespace, size: PAIR_ENDS, missing: '-' }, aggs: { level } },
      },
    },
    total: level,
    edges: endsOf(sourcePod, { destination: endsOf(destinationPod, { level }) }),
    talkers: {
      terms: { field: field.sourceIp, size: TALKERS },
      aggs: {
        level,
        name: { terms: { field: sourcePod.name, size: 1, exclude: ['-'] } },
        namespace: { terms: { field: sourcePod.namespace, size: 1, exclude: ['-'] } },
      },
    },
  };
}

/** The pods with the most alerts. */
function endsOf({ name, namespace }: FieldNames['sourcePod'], aggs: Aggregations): Aggregations[string] {
  const inNamespace = { terms: { field: namespace, size: SAME_NAMES, missing: '-' }, aggs };
  return { terms: { field: name, size: PAIR_ENDS, missing: '-' }, aggs: { namespace: inNamespace } };
}

function edgesOf(sources: unknown): Pair[] {
  const edges = podsIn(sources).flatMap(([source, { destination }]) =>
    podsIn(destination).map(([pod, { level }]) => ({ source, destination: pod, counts: levelCounts(level) })),
  );
  return sumPairs(edges);
}

/** With the name's and the namespace's in one; empty where either is not known. */
function podsIn(names: unknown): [string, Fields][] {
  return bucketsOf(names).flatMap((name) =>
    bucketsOf(name['namespace']).map((namespace): [string, Fields] => {
      const known = name['key'] !== '-' && namespace['key'] !== '-';
      return [known ? `${text(namespace['key'])}/${text(name['key'])}` : '', namespace];
    }),
  );
}

function pairsOf(bucket: Fields): Pair[] {
  return bucketsOf(bucket['destination']).map((destination) => ({
    source: namespaceOf(bucket),
    destination: namespaceOf(destination),
    counts: levelCounts(destination['level']),
  }));
}

function namespaceOf({ key }: Fields): string {
  return text(key) === '-' ? '' : text(key);
}

function talkerOf(bucket: Fields): Talker {
  const [name, namespace] = [bucket['name'], bucket['namespace']].map((part) => text(bucketsOf(part)[0]?.['key']));
  return {
    ip: text(bucket['key']),
    ...(name && namespace ? { name, namespace } : {}),
    counts: levelCounts(bucket['level']),
  };
}
