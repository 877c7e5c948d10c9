/**
 * An alert in IBM's Log Event Extended Format 2.0 (https://www.ibm.com/docs/en/dsm?topic=leef-overview): a header with
 * `|` between its fields, and names with values, tabs between them. It can't escape anything: what would end a field
 * becomes a space.
 */
import type { Alert } from './alert.ts';
import { podOf } from './cef.ts';
import { cut } from './format.ts';

const MAX_VALUE = 1023;

export function toLeef(alert: Alert): string {
  const { engine, gid, sid } = alert;
  const header = ['dpi-agent', engine.name, engine.version, `${gid}:${sid}`].map((field) => field.replaceAll('|', ' '));
  const attributes = attributesOf(alert)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}=${cut(value.replaceAll('\t', ' '), MAX_VALUE)}`);
  return `LEEF:2.0|${header.join('|')}|x09|${attributes.join('\t')}`;
}

function attributesOf(alert: Alert): [name: string, value: string][] {
  const { source, destination } = alert;
  return [
    ['devTime', String(Math.floor(alert.time))],
    ['cat', alert.class],
    ['sev', String(Math.max(1, Math.round(alert.severity / 10)))],
    ['src', source.ip],
    ['srcPort', String(source.port ?? '')],
    ['dst', destination.ip],
    ['dstPort', String(destination.port ?? '')],
    ['proto', alert.protocol],
    ['eventId', alert.id],
    ['name', alert.message],
    ['count', String(alert.count)],
    ['lastTime', alert.last],
    ['sourcePod', podOf(source)],
    ['destinationPod', podOf(destination)],
    ['resource', alert.resource],
    ['tactic', alert.tactic],
    ['node', alert.node],
    ['cluster', alert.cluster],
    ['link', alert.url],
    ['msg', alert.fast],
  ];
}
