/**
 * Reads a YAML file into plain data that remembers where everything stood.
 *
 * Bounded: 1 MiB of UTF-8, 50 levels, 100 uses of an alias. One document, whose top is a mapping; an empty file is an
 * empty mapping.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { Composer, isAlias, isMap, isNode, isScalar, isSeq, Lexer, LineCounter, Parser, visit } from 'yaml';
import type { Document, Scalar } from 'yaml';
import { messageOf } from '../files/errors.ts';
import { isRecord } from '../files/record.ts';
import { plain, shown } from './text.ts';

export const MAX_FILE_BYTES = 1 << 20;
const MAX_DEPTH = 50;
const MAX_ALIASES = 100;
const MAX_ERRORS = 20;

export type Path = readonly (string | number)[];

export interface YamlError {
  /** `file`, `file:line:column`. */
  source: string;
  problem: string;
}

export interface YamlFile {
  data: Record<string, unknown>;
  /** `file:line:column` of the value at a path, or of the nearest collection around it; with `key`, of the key. */
  locate(path: Path, key?: boolean): string;
}

export function readYaml(file: string): YamlFile | { errors: YamlError[] } {
  const failed = (problem: string): { errors: YamlError[] } => ({ errors: [{ source: plain(file, 256), problem }] });
  const content = readBounded(file);
  if ('problem' in content) return failed(content.problem);
  try {
    return readYamlText(file, new TextDecoder('utf-8', { fatal: true }).decode(content.bytes));
  } catch {
    return failed('is not UTF-8 text');
  }
}

/** @param file What errors call the text. */
export function readYamlText(file: string, source: string): YamlFile | { errors: YamlError[] } {
  const name = plain(file, 256);
  const failed = (problem: string): { errors: YamlError[] } => ({ errors: [{ source: name, problem }] });

  const lines = new LineCounter();
  const place = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${name}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
  };
  const parsed = parse(source, lines);
  if ('problem' in parsed) return { errors: [{ source: place(parsed.offset), problem: parsed.problem }] };
  const { document } = parsed;
  const faults = [...document.errors, ...document.warnings].map((fault) => ({
    offset: fault.pos[0],
    problem: `is not valid YAML: ${plain(fault.message, 200)}`,
  }));
  if (faults.length === 0) faults.push(...repeatedKeys(document));
  if (faults.length > 0) {
    return { errors: faults.slice(0, MAX_ERRORS).map(({ offset, problem }) => ({ source: place(offset), problem })) };
  }

  let data: unknown;
  try {
    data = document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (error) {
    const reason = messageOf(error);
    return failed(
      /excessive alias/i.test(reason)
        ? `uses aliases too often: expected at most ${MAX_ALIASES} uses`
        : `is not valid YAML: ${plain(reason, 200)}`,
    );
  }
  if (data === null || data === undefined) data = {};
  if (!isRecord(data)) return { errors: [{ source: place(0), problem: 'expected a mapping of keys to values' }] };
  return { data, locate: (path, key = false) => place(offsetOf(document, path, key)) };
}

function readBounded(file: string): { bytes: Buffer } | { problem: string } {
  let fd: number | undefined;
  try {
    // Non-blocking: opening a FIFO would else wait for a writer.
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!fstatSync(fd).isFile()) return { problem: 'is not a regular file' };
    const buffer = Buffer.alloc(MAX_FILE_BYTES + 1);
    let length = 0;
    for (let read = -1; read !== 0 && length < buffer.length; length += read) {
      read = readSync(fd, buffer, length, buffer.length - length, null);
    }
    if (length > MAX_FILE_BYTES) return { problem: `is too large: expected at most ${MAX_FILE_BYTES} bytes` };
    return { bytes: buffer.subarray(0, length) };
  } catch (error) {
    return { problem: `can't be read: ${plain(messageOf(error), 300)}` };
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Composing recurses once a level, in the end beyond what the stack holds; the parser before it does not. */
function parse(
  source: string,
  lines: LineCounter,
): { document: Document.Parsed } | { problem: string; offset: number } {
  const parser = new Parser(lines.addNewLine);
  const tokens = [];
  lines.addNewLine(0);
  for (const lexeme of new Lexer().lex(source)) {
    tokens.push(...parser.next(lexeme));
    if (parser.stack.length > MAX_DEPTH) {
      return { offset: parser.offset, problem: `is nested too deeply: expected fewer than ${MAX_DEPTH} levels` };
    }
  }
  tokens.push(...parser.end());
  // Repeated keys are looked for here: the composer compares every two keys of a mapping.
  const composer = new Composer({ lineCounter: lines, logLevel: 'silent', prettyErrors: false, uniqueKeys: false });
  const [document, second] = composer.compose(tokens, true, source.length);
  if (document === undefined) return { offset: 0, problem: 'is not valid YAML' };
  if (second !== undefined) return { offset: second.range[0], problem: 'has a second document: expected one' };
  return { document };
}

function repeatedKeys(document: Document.Parsed): { offset: number; problem: string }[] {
  const repeated: { offset: number; problem: string }[] = [];
  visit(document, {
    Map(_, map) {
      const seen = new Set<string>();
      for (const { key } of map.items) {
        if (!isScalar(key)) {
          const offset = startOf(key) ?? startOf(map) ?? 0;
          repeated.push({ offset, problem: 'has a key that is not text' });
          continue;
        }
        const name = nameOf(key);
        if (seen.has(name)) {
          const problem = `repeats the key ${shown(name)} of the same mapping: expected each key once`;
          repeated.push({ offset: startOf(key) ?? 0, problem });
        }
        seen.add(name);
      }
    },
  });
  return repeated;
}

function offsetOf(document: Document.Parsed, path: Path, ofKey: boolean): number {
  let node: unknown = document.contents;
  let offset = startOf(node) ?? 0;
  for (const [index, step] of path.entries()) {
    if (isAlias(node)) node = node.resolve(document);
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && nameOf(key) === String(step));
      if (pair === undefined) return offset;
      node = ofKey && index === path.length - 1 ? pair.key : (pair.value ?? pair.key);
    } else if (isSeq(node) && typeof step === 'number') {
      node = node.items[step];
    } else {
      return offset;
    }
    offset = startOf(node) ?? offset;
  }
  return offset;
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined;
}

function nameOf(key: Scalar): string {
  return typeof key.value === 'string' ? key.value : JSON.stringify(key.value);
}
