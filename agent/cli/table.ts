/**
 * Lines and tables for a terminal: no line is longer than it is wide, and what a line says is all there, further down,
 * but for columns of a table that are named as what can be missed. Text from outside comes without control characters.
 */
import { stripControls } from '../text.ts';
import { wrapWords, type Colours } from './print.ts';

export type Paint = keyof Pick<Colours, 'bold' | 'dim' | 'red' | 'green' | 'yellow'>;
export type Cell = string | { text: string; paint: Paint };
export type Line = Cell[];

const GAP = 2;
/** A last cell goes on below its row where it has less room than this beside the others, or takes more lines. */
const LEAST_LAST = 20;
const MOST_LINES_BESIDE = 2;
const BELOW = 4;

function textOf(cell: Cell): string {
  return stripControls(typeof cell === 'string' ? cell : cell.text);
}

const lengthOf = (cell: Cell): number => Array.from(textOf(cell)).length;

function withText(cell: Cell, text: string): Cell {
  return typeof cell === 'string' ? text : { ...cell, text };
}

/** The line, or what does not fit into it on further ones. @param hang Blanks before these. */
export function foldLine(line: Line, columns: number, hang: number): Line[] {
  const lines: Line[] = [[]];
  let room = columns;
  for (const cell of line) {
    for (const word of textOf(cell).split(/(?<=\s)(?=\S)/)) {
      if (lengthOf(word.trimEnd()) > room && room < columns - hang) {
        lines.push([' '.repeat(hang)]);
        room = columns - hang;
      }
      const [first = '', ...more] = wrapWords(word, Math.max(room, 1));
      lines.at(-1)?.push(withText(cell, more.length === 0 ? word : first));
      for (const part of more) lines.push([' '.repeat(hang), withText(cell, part)]);
      room = more.length === 0 ? room - lengthOf(word) : columns - hang - lengthOf(more.at(-1) ?? '');
    }
  }
  return lines;
}

/**
 * @param titles Columns with `>` are aligned to the right; the last one is not padded, and goes on below where it is
 * long.
 * @param leaveOut Titles of columns that are left out where there is no room, the first ones first.
 */
export function tableLines(
  titles: readonly string[],
  rows: readonly Cell[][],
  columns = Infinity,
  leaveOut: readonly string[] = [],
): Line[] {
  const names = titles.map((title) => title.replace('>', ''));
  const widths = names.map((name, column) => Math.max(name.length, ...rows.map((row) => lengthOf(row[column] ?? ''))));
  const shown = shownColumns(names, widths, columns, leaveOut);
  const lines = (cells: readonly Cell[]): Line[] =>
    rowLines(
      shown.map((column) => {
        const right = titles[column]?.startsWith('>') === true;
        return { cell: cells[column] ?? '', width: widths[column] ?? 0, right };
      }),
      columns,
    );
  return [lines(names.map((text) => ({ text, paint: 'bold' }))), ...rows.map(lines)].flat();
}

/** Indices of the columns that there is room for. */
function shownColumns(
  names: readonly string[],
  widths: readonly number[],
  columns: number,
  leaveOut: readonly string[],
): number[] {
  const shown = names.map((_, column) => column);
  const taken = (): number => {
    const sum = shown.reduce((total, column) => total + (widths[column] ?? 0) + GAP, -GAP);
    // The last one may go on below.
    const last = widths[shown.at(-1) ?? 0] ?? 0;
    return sum - Math.max(0, last - LEAST_LAST);
  };
  for (const name of leaveOut) {
    if (taken() <= columns) break;
    shown.splice(shown.indexOf(names.indexOf(name)), 1);
  }
  return shown;
}

interface Placed {
  cell: Cell;
  width: number;
  right: boolean;
}

function rowLines(cells: readonly Placed[], columns: number): Line[] {
  const line: Line = [];
  let room = columns;
  for (const [index, { cell, width, right }] of cells.entries()) {
    const text = textOf(cell);
    const isLast = index === cells.length - 1;
    if (isLast && !right && lengthOf(cell) > room) return [...withLastBelow(line, cell, room, columns)];
    const missing = ' '.repeat(Math.max(0, width - lengthOf(cell)));
    const padded = right ? `${missing}${text}` : isLast ? text : `${text}${missing}`;
    line.push(withText(cell, `${padded}${isLast ? '' : ' '.repeat(GAP)}`));
    room -= width + GAP;
  }
  return [line];
}

/** A last cell that does not fit beside the others. */
function withLastBelow(line: Line, cell: Cell, room: number, columns: number): Line[] {
  const isBeside = room >= LEAST_LAST && wrapWords(textOf(cell), room).length <= MOST_LINES_BESIDE;
  const indent = isBeside ? columns - room : BELOW;
  const parts = wrapWords(textOf(cell), Math.max(columns - indent, 1)).map((part) => withText(cell, part));
  const [first, ...more] = isBeside ? parts : ['', ...parts];
  return [[...line, first ?? ''], ...more.map((part) => [' '.repeat(indent), part])];
}

/** Cut to the width first, and painted then: an escape is not cut in two. */
export function paintLine(line: Line, columns: number, colours: Colours): string {
  let room = columns;
  const parts: string[] = [];
  for (const cell of line) {
    const text = textOf(cell);
    const characters = Array.from(lengthOf(text) > room ? text.trimEnd() : text);
    const fits = characters.length <= room;
    const shown = fits ? characters.join('') : `${characters.slice(0, Math.max(0, room - 1)).join('')}…`;
    parts.push(typeof cell === 'string' ? shown : colours[cell.paint](shown));
    if (!fits) break;
    room -= characters.length;
    if (room <= 0) break;
  }
  return parts.join('').trimEnd();
}
