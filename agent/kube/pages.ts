/** Lists of the API server, page by page. */
import type { ApiClient, ApiList, ApiObject } from './api.ts';

const PAGE = 500;

/** The items of one page after the other. @throws ApiError */
export async function* pagesOf<T extends ApiObject>(
  client: Pick<ApiClient, 'get'>,
  path: string,
  query: Parameters<ApiClient['get']>[1] = {},
  signal?: AbortSignal,
): AsyncGenerator<T[]> {
  let next: string | undefined;
  do {
    const more = next === undefined ? {} : { continue: next };
    const page: ApiList<T> = await client.get(path, { ...query, limit: PAGE, ...more }, signal);
    yield page.items;
    next = page.metadata.continue;
  } while (next !== undefined && next !== '');
}
