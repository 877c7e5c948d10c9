/**
 * The policy by which a data stream rolls over and old events are deleted: Elasticsearch's index lifecycle management
 * (https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-ilm-put-lifecycle), or OpenSearch's index
 * state management (https://docs.opensearch.org/latest/im-plugin/ism/policies/).
 */
import { get } from './classify.ts';
import { differences } from './template.ts';

/** In milliseconds and bytes. */
export interface Lifecycle {
  rolloverAge?: number | undefined;
  rolloverSize?: number | undefined;
  /** After the rollover; undefined: never. */
  deleteAfter?: number | undefined;
}

/** How one of the two keeps a policy. */
export interface PolicyKind {
  /** What the cluster needs for it. */
  feature: string;
  path: (name: string) => string;
  body: (lifecycle: Lifecycle, index: string) => object;
  /** Where it may be written over what was answered. */
  overwrite: (path: string, actual: unknown) => string;
  differs: (wanted: object, actual: unknown, name: string) => boolean;
  /** Settings of an index that has it. */
  settings: (name: string) => object;
  /** How it is given to indices that are there already; undefined where their settings do. */
  attach?: (name: string, index: string) => { path: string; body: object };
}

const DAY = 86_400_000;
const AGE = 30 * DAY;
const SIZE = 50 * 2 ** 30;

/** Whether one is wanted. */
export function hasPolicy({ rolloverAge, rolloverSize, deleteAfter }: Lifecycle): boolean {
  return (rolloverAge ?? rolloverSize ?? deleteAfter) !== undefined;
}

const ilm: PolicyKind = {
  feature: 'index lifecycle management (ILM)',
  path: (name) => `/_ilm/policy/${name}`,
  body: ({ rolloverAge = AGE, rolloverSize = SIZE, deleteAfter }) => {
    const rollover = { max_age: inTime(rolloverAge), max_primary_shard_size: inSize(rolloverSize) };
    const end = deleteAfter === undefined ? {} : { delete: { min_age: inTime(deleteAfter), actions: { delete: {} } } };
    return { policy: { phases: { hot: { actions: { rollover } }, ...end } } };
  },
  overwrite: (path) => path,
  differs: (wanted, actual, name) => differences(essence(wanted), essence(get(actual, name)), false).length > 0,
  settings: (name) => ({ lifecycle: { name } }),
};

/** What is not filled with defaults. */
function essence(of: unknown): object {
  const phases = get(get(of, 'policy'), 'phases');
  return {
    phases: Object.keys(phases ?? {}),
    rollover: get(get(get(phases, 'hot'), 'actions'), 'rollover'),
    end: get(get(phases, 'delete'), 'min_age'),
  };
}

const ism: PolicyKind = {
  feature: 'index state management (ISM)',
  path: (name) => `/_plugins/_ism/policies/${name}`,
  body({ rolloverAge = AGE, rolloverSize = SIZE, deleteAfter }, index) {
    const [age, size] = [inTime(rolloverAge), inSize(rolloverSize)];
    const end = deleteAfter === undefined ? undefined : inTime(deleteAfter);
    const rollover = { rollover: { min_index_age: age, min_primary_shard_size: size } };
    const next = end === undefined ? [] : [{ state_name: 'delete', conditions: { min_rollover_age: end } }];
    const states = [
      { name: 'hot', actions: [rollover], transitions: next },
      ...(end === undefined ? [] : [{ name: 'delete', actions: [{ delete: {} }], transitions: [] }]),
    ];
    return {
      policy: {
        // By which a change is seen: it has all that may be set.
        description: `dpi-agent: rolls over after ${age} or ${size}, deletes ${end === undefined ? 'nothing' : `after ${end}`}`,
        default_state: 'hot',
        states,
        ism_template: [{ index_patterns: [index], priority: 500 }],
      },
    };
  },
  overwrite: (path, actual) =>
    `${path}?if_seq_no=${Number(get(actual, '_seq_no'))}&if_primary_term=${Number(get(actual, '_primary_term'))}`,
  differs: (wanted, actual) => get(get(wanted, 'policy'), 'description') !== get(get(actual, 'policy'), 'description'),
  settings: () => ({}),
  attach: (name, index) => ({ path: `/_plugins/_ism/add/${index}`, body: { policy_id: name } }),
};

export const POLICY_KINDS: Record<'elasticsearch' | 'opensearch', PolicyKind> = { elasticsearch: ilm, opensearch: ism };

/** In the largest unit that divides it. */
function inTime(millis: number): string {
  return inUnits(millis, [
    [DAY, 'd'],
    [3_600_000, 'h'],
    [60_000, 'm'],
    [1000, 's'],
    [1, 'ms'],
  ]);
}

function inSize(bytes: number): string {
  return inUnits(bytes, [
    [2 ** 30, 'gb'],
    [2 ** 20, 'mb'],
    [2 ** 10, 'kb'],
    [1, 'b'],
  ]);
}

function inUnits(value: number, units: [number, string][]): string {
  const [size, name] = units.find(([unit]) => value % unit === 0) ?? [1, ''];
  return `${value / size}${name}`;
}
