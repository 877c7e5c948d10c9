/**
 * A real Elasticsearch for tests: one of its own, or the one that `$ELASTICSEARCH_URL` names. Where neither is to be
 * had, the tests are skipped with one line that says why. Tests on a given server keep to index names of their own.
 */
import { describe, test } from '@jest/globals';
import { isElasticsearchThere, whyNoElasticsearchProgram } from '../../scripts/elasticsearch.mjs';
import {
  connectTo,
  startOwnElasticsearch,
  type ElasticsearchOptions,
  type TestElasticsearch,
} from './elasticsearch-server.ts';

export type { ElasticsearchOptions, TestElasticsearch } from './elasticsearch-server.ts';

/** One that lives for minutes spends most of its CPU on a second compiler, which only a long life repays. */
const BRIEF = '-XX:TieredStopAtLevel=1';
const GIVEN = process.env['ELASTICSEARCH_URL'] || undefined;

/** Why there is no Elasticsearch here; undefined when there is one. */
export function whyNoElasticsearch(): string | undefined {
  if (GIVEN !== undefined) return undefined;
  const why = whyNoElasticsearchProgram();
  return why ?? (isElasticsearchThere() ? undefined : 'Elasticsearch is not here: run node scripts/elasticsearch.mjs');
}

/** `describe`, or `describe.skip` and one line on standard error. `body` only declares tests and hooks. */
export function describeElasticsearch(body: () => void): void {
  const missing = whyNoElasticsearch();
  if (missing === undefined) {
    if (GIVEN !== undefined)
      process.stderr.write(`skipped: tests with an Elasticsearch of their own, as ${GIVEN} was given\n`);
    describe('Elasticsearch', body);
  } else {
    process.stderr.write(`skipped: ${missing}\n`);
    describe.skip(missing, body);
  }
}

/** A test that ends the server, or needs one of its own: skipped on one that was given. */
export const testOnOwnElasticsearch: typeof test | typeof test.skip = GIVEN === undefined ? test : test.skip;
export const isElasticsearchGiven = GIVEN !== undefined;

/** @param options None but the defaults hold for a given server. */
export async function startElasticsearch(options: ElasticsearchOptions = {}): Promise<TestElasticsearch> {
  if (GIVEN !== undefined) {
    const { username, password, origin, pathname } = new URL(GIVEN);
    const known = username !== '';
    return {
      ...connectTo(
        `${origin}${pathname.replace(/\/$/, '')}`,
        known ? `${username}:${decodeURIComponent(password)}` : undefined,
        undefined,
      ),
      authority: undefined,
      user: known ? username : undefined,
      password: known ? decodeURIComponent(password) : undefined,
      pid: () => undefined,
      kill: () => Promise.reject(new Error('a given server is not killed')),
      restart: () => Promise.reject(new Error('a given server is not restarted')),
      stop: () => Promise.resolve(),
    };
  }
  return startOwnElasticsearch({ java: BRIEF, ...options });
}
