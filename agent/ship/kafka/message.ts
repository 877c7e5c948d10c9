/** An event as a message, and the partition that its key names. */
import { murmur2 } from '@platformatic/kafka';
import type { Item } from '../destination.ts';
import { toAlert } from '../formats/alert.ts';
import type { TextMessage } from './producer.ts';

export function toMessage(item: Item, topic: string, cluster: string): TextMessage & { key: string } {
  const { id, pod, resource, severity, node, time } = toAlert(item.json, { cluster });
  return {
    topic,
    // Where no pod is known, the resource.
    key: pod || resource,
    value: item.json,
    timestamp: BigInt(Math.trunc(time)),
    headers: {
      'content-type': 'application/json',
      event_id: id,
      severity: String(severity),
      cluster,
      node,
    },
  };
}

/** As Kafka's own clients choose it: so what others write with the same key is in the same one. */
export function partitionOf(key: string, partitions: number): number {
  return (murmur2(Buffer.from(key)) & 0x7fff_ffff) % partitions;
}
