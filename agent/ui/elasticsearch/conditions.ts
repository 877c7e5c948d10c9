/** Conditions as queries. */
import type { FieldNames, TextNames } from '../fields.ts';
import { isLike } from '../../files/glob.ts';
import { isWhole, type Condition, type Glob } from '../language/condition.ts';
import { anyOf, iso, stateFilter, type Query } from './queries.ts';

export function conditionQuery(field: FieldNames, condition: Condition): Query {
  switch (condition.is) {
    case 'all':
      return { match_all: {} };
    case 'and':
      return { bool: { filter: condition.of.map((part) => conditionQuery(field, part)) } };
    case 'or':
      return anyOf(condition.of.map((part) => conditionQuery(field, part)));
    case 'not':
      return { bool: { must_not: [conditionQuery(field, condition.of)] } };
    case 'text':
      return anyOf(condition.in.flatMap((name) => textQueries(field.texts[name], condition.like)));
    case 'address':
      return { term: { [condition.at === 'source' ? field.sourceIp : field.destinationIp]: condition.in.text } };
    case 'number':
      return numberQuery(field, condition);
    case 'state':
      return stateFilter(field, condition.state);
  }
}

function textQueries({ names, before = '', endings = [''], none }: TextNames, like: Glob): Query[] {
  // With a wildcard at the end, nothing more has to stand behind it.
  const used = endings.includes('') && !isWhole(like) && like.at(-1) === '' ? [''] : endings;
  return names.flatMap((name) =>
    used.map((ending) => {
      const query = patternQuery(name, joined(before, like, ending));
      // What stands for no text is like nothing.
      if (none === undefined || !isLike(like, none)) return query;
      return { bool: { filter: [query], must_not: [{ term: { [name]: none } }] } };
    }),
  );
}

/** @param ending May have wildcards. */
function joined(before: string, like: Glob, ending: string): Glob {
  const [head = '', ...rest] = ending.split('*');
  const [first = '', ...middle] = like;
  const all = [`${before}${first}`, ...middle];
  const last = all.pop() ?? '';
  return [...all, `${last}${head}`, ...rest];
}

function patternQuery(name: string, like: Glob): Query {
  if (isWhole(like)) return { term: { [name]: { value: like[0] ?? '', case_insensitive: true } } };
  if (like.every((part) => part === ''))
    return { bool: { filter: [{ exists: { field: name } }], must_not: [{ term: { [name]: '' } }] } };
  const value = like.map((part) => part.replaceAll(/[*?\\]/g, String.raw`\$&`)).join('*');
  return { wildcard: { [name]: { value, case_insensitive: true } } };
}

function numberQuery(field: FieldNames, { of, from, below }: Extract<Condition, { is: 'number' }>): Query {
  if (of === 'time') {
    const range = {
      ...(from === undefined ? {} : { gte: iso(from) }),
      ...(below === undefined ? {} : { lt: iso(below) }),
    };
    return { range: { [field.time]: range } };
  }
  const { name, missing } = field.numbers[of];
  const range = {
    range: { [name]: { ...(from === undefined ? {} : { gte: from }), ...(below === undefined ? {} : { lt: below }) } },
  };
  if (missing === undefined || missing < (from ?? 0) || missing >= (below ?? Infinity)) return range;
  return anyOf([range, { bool: { must_not: [{ exists: { field: name } }] } }]);
}
