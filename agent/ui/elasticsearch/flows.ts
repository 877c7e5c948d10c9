/** Who attacks whom: alerts counted by the namespaces of both ends, and by source. */
import type { Flows, Pair, Talker } from '../api.ts';
import type { FieldNames } from '../fields.ts';
import { shownFlows } from '../counting.ts';
import type { AlertQuery, Scope } from '../query.ts';
import { fields, text, type Fields } from '../row.ts';
import { PAIR_ENDS, TALKERS } from '../source.ts';
import type { AlertIndex } from './alert-index.ts';
import { bucketsOf, levelCounts, levels, type Aggregations } from './counts.ts';
import { selected } from './filters.ts';

export async function flowsOf(
  { field, search }: AlertIndex,
  query: AlertQuery,
  scope: Scope,
  signal: AbortSignal,
): Promise<Flows> {
  const filter = selected(field, query, scope);
  const answer = await search({ size: 0, query: { bool: { filter } }, aggs: aggregationsOf(field) }, signal);
  const { pairs, talkers } = fields(answer.aggregations);
  return shownFlows(bucketsOf(pairs).flatMap(pairsOf), bucketsOf(talkers).map(talkerOf));
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
