/** Community ID, version 1, with seed 0: https://github.com/corelight/community-id-spec */
import { createHash } from 'node:crypto';
import { addressBytes } from '../../endpoints/address.ts';
import type { FlowKey } from './transport.ts';

const SEED = Buffer.alloc(2);
const NUMBERS: Readonly<Record<string, number>> = { TCP: 6, UDP: 17, SCTP: 132 };

/** @returns undefined for protocols without ports: ICMP's types and codes are not in an alert. */
export function communityId({ protocol, source, destination }: FlowKey): string | undefined {
  const number = NUMBERS[protocol.toUpperCase()];
  const ends = [endOf(source.ip, source.port), endOf(destination.ip, destination.port)];
  const [first, second] = ends;
  if (number === undefined || first === undefined || second === undefined) return undefined;
  if (first.length !== second.length) return undefined;
  const [low, high] = Buffer.compare(first, second) <= 0 ? [first, second] : [second, first];
  const [address, port] = [(end: Buffer) => end.subarray(0, -2), (end: Buffer) => end.subarray(-2)];
  const hashed = [SEED, address(low), address(high), Buffer.from([number, 0]), port(low), port(high)];
  const digest = createHash('sha1').update(Buffer.concat(hashed)).digest('base64');
  return `1:${digest}`;
}

function endOf(ip: string, port: number | undefined): Buffer | undefined {
  const address = addressBytes(ip);
  if (address === undefined || port === undefined || port < 0 || port > 65_535) return undefined;
  return Buffer.concat([address, Buffer.from([port >>> 8, port & 0xff])]);
}
