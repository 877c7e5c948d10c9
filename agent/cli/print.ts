/** Events for people, in columns; colours only where `colours` says so. */
import picocolors from 'picocolors';
import type { EeEvent } from '../events/event.ts';
import type { Level } from '../ui/api.ts';
import { levelOf } from '../events/level.ts';

export type Colours = ReturnType<typeof picocolors.createColors>;

/** Without a terminal isTTY is not false but undefined, which libraries take for: as the environment says. */
export function isTerminal({ isTTY }: { isTTY?: boolean }): boolean {
  return isTTY ?? false;
}

/** Colours of a stream: none without a terminal, or with NO_COLOR. */
export function coloursOf(stream: NodeJS.WriteStream): Colours {
  return picocolors.createColors(isTerminal(stream) && process.env['NO_COLOR'] === undefined);
}

/** Of a terminal that does not know its width, as that of a container may not. */
const USUAL_COLUMNS = 80;

/** Characters that a line has room for; unbounded without a terminal. */
export function columnsOf(stream: { isTTY?: boolean; columns?: number }): number {
  return isTerminal(stream) ? stream.columns || USUAL_COLUMNS : Infinity;
}

const lengthOf = (text: string): number => Array.from(text).length;

/** Lines of at most `width` characters, broken at blanks; a longer word is broken anywhere. */
export function wrapWords(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/(?<=\s)(?=\S)/)) {
    if (line !== '' && lengthOf(`${line}${word.trimEnd()}`) > width) {
      lines.push(line.trimEnd());
      line = '';
    }
    line += word;
    for (; lengthOf(line.trimEnd()) > width; line = Array.from(line).slice(width).join(''))
      lines.push(Array.from(line).slice(0, width).join(''));
  }
  return [...lines, line.trimEnd()];
}

const COLUMNS = { time: 26, severity: 8, rule: 14, flow: 46 };
const GAP = '  ';
/** With less room, an event takes two lines and more, its time has no fraction, and nothing is cut. */
const ONE_LINE = 150;
const LEAST_COLUMNS = 50;
const LEAST_MESSAGE = 20;
const SHORT_TIME = 'YYYY-MM-DD hh:mm:ss'.length;
const SECOND_LINE = ' '.repeat(SHORT_TIME + GAP.length);

/** @param columns What there is room for, as `columnsOf` says. */
export function tableHeader(colours: Colours, columns = Infinity): string {
  const lines =
    columns < ONE_LINE
      ? [`${'TIME (UTC)'.padEnd(SHORT_TIME)}${GAP}SEVERITY${GAP}MESSAGE`, `${SECOND_LINE}RULE${GAP}FLOW`]
      : [
          `${'TIME (UTC)'.padEnd(COLUMNS.time)}${GAP}${'SEVERITY'.padEnd(COLUMNS.severity)}${GAP}` +
            `${'RULE'.padEnd(COLUMNS.rule)}${GAP}${'FLOW'.padEnd(COLUMNS.flow)}${GAP}MESSAGE`,
        ];
  return lines.map((line) => colours.bold(line)).join('\n');
}

interface Row {
  /** `2026-11-22 00:41:07.123456` */
  time: string;
  severity: Level;
  rule: string;
  flow: string;
  message: string;
  /** Of the severity and the message. */
  paint: (text: string) => string;
}

/** `2026-11-22 00:41:07.123456  critical  1:1000000:1  10.0.0.2:40000 → default/backend:80  KUBERNETES …` */
export function tableRow(event: EeEvent, colours: Colours, columns = Infinity): string {
  const { record } = event;
  const { count = 1 } = record;
  const severity = levelOf(event.severity);
  const row = {
    time: record.timestamp.replace('T', ' ').replace('Z', ''),
    severity,
    rule: `${record.generator_id}:${record.snort_signature_id}:${record.snort_signature_revision}`,
    flow: `${end(event, 'source')} → ${end(event, 'dest')}`,
    message: `${record.message || '(no text)'}${count > 1 ? ` (×${grouped(count)})` : ''}`,
    paint: { critical: colours.red, high: colours.yellow, medium: colours.cyan, low: colours.cyan }[severity],
  };
  return (columns < ONE_LINE ? undefined : inOneLine(row, columns)) ?? inSeveralLines(row, columns);
}

/** But for a long message, which goes on below itself. @returns undefined where the flow leaves no room for it. */
function inOneLine({ time, severity, rule, flow, message, paint }: Row, columns: number): string | undefined {
  const before = `${time.padEnd(COLUMNS.time)}${GAP}`;
  const between = `${GAP}${rule.padEnd(COLUMNS.rule)}${GAP}${flow.padEnd(COLUMNS.flow)}${GAP}`;
  const indent = before.length + COLUMNS.severity + between.length;
  if (columns - indent < LEAST_MESSAGE) return undefined;
  const [first = '', ...more] = wrapWords(message, columns - indent);
  return [
    `${before}${paint(severity.padEnd(COLUMNS.severity))}${between}${paint(first)}`,
    ...more.map((text) => `${' '.repeat(indent)}${paint(text)}`),
  ].join('\n');
}

function inSeveralLines({ time, severity, rule, flow, message, paint }: Row, columns: number): string {
  const room = Math.max(columns, LEAST_COLUMNS) - SECOND_LINE.length;
  const indent = COLUMNS.severity + GAP.length;
  const [first = '', ...more] = wrapWords(message, room - indent);
  return [
    `${time.slice(0, SHORT_TIME).padEnd(SHORT_TIME)}${GAP}${paint(severity.padEnd(indent))}${paint(first)}`,
    ...more.map((text) => `${SECOND_LINE}${' '.repeat(indent)}${paint(text)}`),
    ...wrapWords(`${rule}${GAP}${flow}`, room).map((text) => `${SECOND_LINE}${text}`),
  ].join('\n');
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

/** "1 file", "1,234 files", "2 entries". @param many Where it is not `one` with an s. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${grouped(count)} ${count === 1 ? one : many}`;
}
