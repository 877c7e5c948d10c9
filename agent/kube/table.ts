/**
 * Objects as a server's tables have them: kubernetes.io/docs/reference/using-api/api-concepts, "Receiving resources as
 * Tables". Some hundred bytes for an object of any size.
 *
 * What a column shows is said by its description only, and only where its author gave none of his own.
 */
import { isRecord } from '../files/record.ts';
import type { ApiList, ApiObject, Row } from './api.ts';
import { list, record, text } from './fields.ts';

/** apiextensions-apiserver, pkg/registry/customresource/tableconvertor. */
const SHOWS = 'Custom resource definition column (in JSONPath format): ';

/** Paths of fields, by the number of the column. */
type Columns = ReadonlyMap<number, string>;

/** Of each object of a watch, in order: only the first table says what its columns are. */
export function rowReader(): (object: unknown) => unknown {
  let columns: Columns | undefined;
  return (object) => {
    if (!isTable(object)) return object;
    columns ??= columnsOf(object);
    return rowsOf(object, columns)[0];
  };
}

/** The answer as it is, where it is no table; undefined where it is one that lacks an object. */
export function listOfRows(answer: unknown): unknown {
  if (!isTable(answer)) return answer;
  const { metadata } = answer as unknown as Pick<ApiList<ApiObject>, 'metadata'>;
  const items = rowsOf(answer, columnsOf(answer));
  return items.length === list(answer['rows']).length ? ({ metadata, items } satisfies ApiList<Row>) : undefined;
}

function isTable(object: unknown): object is Record<string, unknown> {
  return record(object)['kind'] === 'Table';
}

function columnsOf(table: Record<string, unknown>): Columns {
  const shown = list(table['columnDefinitions']).map((column) => text(record(column)['description']));
  return new Map(
    [...shown.entries()]
      .filter(([, description]) => description.startsWith(SHOWS))
      .map(([index, description]) => [index, description.slice(SHOWS.length)]),
  );
}

function rowsOf(table: Record<string, unknown>, columns: Columns): Row[] {
  return list(table['rows']).flatMap((row) => {
    const { cells, object } = record(row);
    const { metadata } = record(object) as Partial<ApiObject>;
    if (!isRecord(metadata)) return [];
    const values = list(cells);
    return [{ metadata, columns: Object.fromEntries([...columns].map(([index, path]) => [path, values[index]])) }];
  });
}
