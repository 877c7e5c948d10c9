/**
 * A connection by which Elasticsearch's client talks to OpenSearch, which answers the same questions: it sends JSON
 * under its usual name, as OpenSearch refuses that of the vendor (406), and says that what answers is what the client
 * asks for, as OpenSearch does not (https://github.com/elastic/elastic-transport-js, productCheck).
 */
import { UndiciConnection } from '@elastic/elasticsearch';

type Params = Parameters<UndiciConnection['request']>[0];

export class OpenSearchConnection extends UndiciConnection {
  // The overloads of what it overrides, for answers as a whole and for streams, in one.
  override async request(params: Params, options: never): Promise<never> {
    const answer = await super.request({ ...params, headers: plain(params.headers) }, options);
    return { ...(answer as object), headers: { ...answer.headers, 'x-elastic-product': 'Elasticsearch' } } as never;
  }
}

/** `application/vnd.elasticsearch+json; compatible-with=8` is `application/json`. */
function plain(headers: Params['headers']): NonNullable<Params['headers']> {
  return Object.fromEntries(
    Object.entries(headers ?? {}).map(([name, value]) => [
      name,
      typeof value === 'string'
        ? value.replaceAll(/application\/vnd\.elasticsearch\+([a-z-]+)(; *compatible-with=\d+)?/g, 'application/$1')
        : value,
    ]),
  );
}
