/** The pods at the ends of a table's alerts, by number. */
import { podOf } from '../row.ts';
import type { Table } from './table.ts';

export interface Pods {
  names: readonly string[];
  /** By number of the end's part; -1: no pod is known. */
  sources: Int32Array;
  destinations: Int32Array;
}

export function podNumbers({ parts }: Table): Pods {
  const numbers = new Map<string, number>();
  const numberOf = (pod: string | undefined): number => {
    if (pod === undefined) return -1;
    const number = numbers.get(pod) ?? numbers.size;
    numbers.set(pod, number);
    return number;
  };
  const sources = Int32Array.from(parts.source.values, ({ source }) => numberOf(podOf(source)));
  const destinations = Int32Array.from(parts.destination.values, ({ destination }) => numberOf(podOf(destination)));
  return { names: [...numbers.keys()], sources, destinations };
}
