/** Events for people: one line each, in columns; colours only where `colours` says so. */
import picocolors from 'picocolors';
import type { EeEvent } from '../events/event.ts';

export type Colours = ReturnType<typeof picocolors.createColors>;

/** Without a terminal isTTY is not false but undefined, which libraries take for: as the environment says. */
export function isTerminal({ isTTY }: { isTTY?: boolean }): boolean {
  return isTTY ?? false;
}

/** Colours of a stream: none without a terminal, or with NO_COLOR. */
export function coloursOf(stream: NodeJS.WriteStream): Colours {
  return picocolors.createColors(isTerminal(stream) && process.env['NO_COLOR'] === undefined);
}

const COLUMNS = { time: 26, severity: 8, rule: 14, flow: 46 };

export function tableHeader(colours: Colours): string {
  const { time, severity, rule, flow } = COLUMNS;
  return colours.bold(
    `${'TIME (UTC)'.padEnd(time)}  ${'SEVERITY'.padEnd(severity)}  ${'RULE'.padEnd(rule)}  ${'FLOW'.padEnd(flow)}  MESSAGE`,
  );
}

/** `2026-11-22 00:41:07.123456  100  1:1000000:1  10.0.0.2:40000 → default/backend:80  KUBERNETES …` */
export function tableRow(event: EeEvent, colours: Colours): string {
  const { record } = event;
  const { count = 1 } = record;
  const time = record.timestamp.replace('T', ' ').replace('Z', '');
  const colour = event.severity >= 100 ? colours.red : event.severity >= 80 ? colours.yellow : colours.cyan;
  const flow = `${end(event, 'source')} → ${end(event, 'dest')}`;
  return [
    time.padEnd(COLUMNS.time),
    colour(String(event.severity).padEnd(COLUMNS.severity)),
    `${record.generator_id}:${record.snort_signature_id}:${record.snort_signature_revision}`.padEnd(COLUMNS.rule),
    flow.padEnd(COLUMNS.flow),
    colour(`${record.message || '(no text)'}${count > 1 ? ` (×${grouped(count)})` : ''}`),
  ].join('  ');
}

function end(event: EeEvent, side: 'source' | 'dest'): string {
  const name = event[`${side}_name`];
  const port = event[`${side}_port`];
  const ip = event[`${side}_ip`] ?? '';
  const who =
    name === '-' ? (ip.includes(':') && port !== undefined ? `[${ip}]` : ip) : `${event[`${side}_namespace`]}/${name}`;
  return port === undefined ? who : `${who}:${port}`;
}

/** 1234567 → "1,234,567" */
export function grouped(value: number): string {
  return value.toLocaleString('en-US');
}
