/**
 * Finds whose alerts are that bear no VLAN id. Suricata takes what is in a tunnel for a packet of its own, without the
 * tags around it; its alert has the number of the record.
 */
import type { Alert, Decoded } from '../engine/alert.ts';

/** VLAN ids of the endpoints that records are of, by their numbers. */
export type OwnersOf = (records: readonly number[]) => Promise<(number | undefined)[]>;

/** The same items; alerts have their ids where they can be told. */
export async function locate(items: readonly Decoded[], ownersOf: OwnersOf): Promise<Decoded[]> {
  const numbers = items.map((item) => (item.kind === 'alert' ? recordOf(item.alert) : undefined));
  const records = [...new Set(numbers)].filter((number) => number !== undefined);
  if (records.length === 0) return [...items];
  const vlans = await ownersOf(records);
  const found = new Map(records.map((record, index) => [record, vlans[index]]));
  return items.map((item, index) => {
    const number = numbers[index];
    const vlan = number === undefined ? undefined : found.get(number);
    return item.kind !== 'alert' || vlan === undefined ? item : { ...item, alert: { ...item.alert, vlan } };
  });
}

function recordOf({ vlan, packetNumber }: Alert): number | undefined {
  return vlan === 0 ? packetNumber : undefined;
}
