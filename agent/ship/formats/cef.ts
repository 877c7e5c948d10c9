/**
 * An alert in the Common Event Format (ArcSight, "Implementing ArcSight Common Event Format", version 0): a header with
 * `|` between its fields, and names with values. An address of IPv6 has fields of its own.
 */
import { isIPv6 } from 'node:net';
import type { Alert } from './alert.ts';
import { cut } from './format.ts';

const MAX_HEADER = 512;
const MAX_VALUE = 1023;

export function toCef(alert: Alert): string {
  const { engine, gid, sid, message, severity } = alert;
  const header = [
    'dpi-agent',
    engine.name,
    engine.version,
    `${gid}:${sid}`,
    message,
    String(Math.round(severity / 10)),
  ];
  const fields = extensionOf(alert)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}=${escapeValue(cut(value, MAX_VALUE))}`);
  return `CEF:0|${header.map((field) => escapeHeader(cut(field, MAX_HEADER))).join('|')}|${fields.join(' ')}`;
}

/** Names are those of the format; what it has none for is in its custom strings. */
function extensionOf(alert: Alert): [name: string, value: string][] {
  const { source, destination, count, time, last } = alert;
  return [
    ['externalId', alert.id],
    ['rt', String(Math.floor(time))],
    ['end', String(Date.parse(last) || Math.floor(time))],
    ['cnt', String(count)],
    ...addressOf('src', 'c6a2', source.ip),
    ['spt', String(source.port ?? '')],
    ...addressOf('dst', 'c6a3', destination.ip),
    ['dpt', String(destination.port ?? '')],
    ['proto', alert.protocol],
    ['cat', alert.class],
    ['dvchost', alert.node],
    ...custom('cs1', 'resource', alert.resource),
    ...custom('cs2', 'sourcePod', podOf(source)),
    ...custom('cs3', 'destinationPod', podOf(destination)),
    ...custom('cs4', 'tactic', alert.tactic),
    ...custom('cs5', 'link', alert.url),
    ...custom('cs6', 'cluster', alert.cluster),
    ['msg', alert.fast],
  ];
}

function addressOf(name: string, name6: string, ip: string): [string, string][] {
  return isIPv6(ip)
    ? custom(name6, name === 'src' ? 'Source IPv6 Address' : 'Destination IPv6 Address', ip)
    : [[name, ip]];
}

function custom(name: string, label: string, value: string): [string, string][] {
  return value === ''
    ? []
    : [
        [name, value],
        [`${name}Label`, label],
      ];
}

export function podOf({ namespace, name }: Alert['source']): string {
  return name === '' ? '' : [namespace, name].filter(Boolean).join('/');
}

function escapeHeader(text: string): string {
  return text.replaceAll(/[\\|]/g, String.raw`\$&`);
}

function escapeValue(text: string): string {
  return text.replaceAll(/[\\=]/g, String.raw`\$&`);
}
