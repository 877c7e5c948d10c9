/** Tries a condition on rows. */
import type { AlertRow, End } from '../api.ts';
import { addressNumber } from './address.ts';
import { isLike } from '../../files/glob.ts';
import { fold, type Condition, type NumberField, type TextField } from './condition.ts';

/** A row, or the part of one that has what is looked at. */
export type Searched = Partial<Omit<AlertRow, 'source' | 'destination'> & Record<'source' | 'destination', End>>;

/** @param time The row's, in milliseconds since the epoch. */
export type Accept = (row: Searched, time: number) => boolean;

export function accepting(condition: Condition): Accept {
  switch (condition.is) {
    case 'all':
      return () => true;
    case 'and': {
      const all = condition.of.map(accepting);
      return (row, time) => all.every((accept) => accept(row, time));
    }
    case 'or': {
      const any = condition.of.map(accepting);
      return (row, time) => any.some((accept) => accept(row, time));
    }
    case 'not': {
      const accept = accepting(condition.of);
      return (row, time) => !accept(row, time);
    }
    case 'text': {
      const { in: fields } = condition;
      const test = remembered(textTest(condition));
      return (row) => fields.some((field) => hasText(row, field, test));
    }
    case 'address': {
      const { at } = condition;
      const test = remembered(addressTest(condition));
      return (row) => test(row[at]?.ip ?? '');
    }
    case 'number': {
      const { of, from = -Infinity, below = Infinity } = condition;
      return (row, time) => {
        const value = numberOf(row, time, of);
        return value !== undefined && value >= from && value < below;
      };
    }
    case 'state':
      return (row) => row.state === condition.state;
  }
}

function textTest({ like }: Extract<Condition, { is: 'text' }>): (text: string) => boolean {
  return (text) => text !== '' && isLike(like, fold(text));
}

function addressTest({ in: network }: Extract<Condition, { is: 'address' }>): (text: string) => boolean {
  return (text) => {
    const number = addressNumber(text);
    return number !== undefined && number >= network.first && number <= network.last;
  };
}

/** Of each text and address in a condition; a stream of alerts may go on for days. */
const REMEMBERED = 10_000;

/** Rows have few different texts and addresses. */
function remembered(test: (text: string) => boolean): (text: string) => boolean {
  const known = new Map<string, boolean>();
  return (text) => {
    let answer = known.get(text);
    if (answer === undefined) {
      answer = test(text);
      if (known.size >= REMEMBERED) known.clear();
      known.set(text, answer);
    }
    return answer;
  };
}

function hasText(row: Searched, field: TextField, test: (text: string) => boolean): boolean {
  switch (field) {
    case 'technique':
      return (row.techniques ?? []).some((technique) => test(technique) || test(technique.split('.')[0] ?? ''));
    case 'cve':
      return (row.cves ?? []).some(test);
    case 'domain':
      return (row.app?.domains ?? []).some(test);
    case 'hassh':
      return (row.app?.hassh ?? []).some(test);
    default:
      return test(textOf(row, field) ?? '');
  }
}

function textOf(
  row: Searched,
  field: Exclude<TextField, 'technique' | 'cve' | 'domain' | 'hassh'>,
): string | undefined {
  switch (field) {
    case 'class':
      return row.classification;
    case 'source.name':
      return row.source?.name;
    case 'source.namespace':
      return row.source?.namespace;
    case 'destination.name':
      return row.destination?.name;
    case 'destination.namespace':
      return row.destination?.namespace;
    case 'app':
      return row.app?.protocol;
    case 'host':
    case 'method':
    case 'url':
    case 'useragent':
    case 'sni':
    case 'ja3':
    case 'ja4':
      return row.app?.[field];
    default:
      return row[field];
  }
}

function numberOf(row: Searched, time: number, field: NumberField): number | undefined {
  switch (field) {
    case 'time':
      return time;
    case 'source.port':
      return row.source?.port;
    case 'destination.port':
      return row.destination?.port;
    case 'status':
      return row.app?.status;
    default:
      return row[field];
  }
}
