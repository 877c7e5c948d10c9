import { expect, test } from '@jest/globals';
import { classifyBulk, classifyItem, sendError } from '../../../agent/ship/elasticsearch/classify.ts';
import type { Item, Outcome } from '../../../agent/ship/destination.ts';

const items: Item[] = ['a', 'b'].map((id, number) => ({ id, number, json: '{}' }));
const created = (id: string, status = 201): object => ({ create: { _id: id, status } });

const TABLE: [number, string, Outcome['is'] | 'duplicate' | 'throttled'][] = [
  [200, '', 'delivered'],
  [201, '', 'delivered'],
  [409, 'version_conflict_engine_exception', 'duplicate'],
  [408, 'timeout', 'retry'],
  [429, 'es_rejected_execution_exception', 'throttled'],
  [429, 'cluster_block_exception', 'throttled'],
  [500, 'x', 'retry'],
  [502, 'x', 'retry'],
  [503, 'unavailable_shards_exception', 'retry'],
  [504, 'x', 'retry'],
  [404, 'index_not_found_exception', 'retry'],
  [401, 'security_exception', 'retry'],
  [403, 'security_exception', 'retry'],
  [403, 'cluster_block_exception', 'retry'],
  [400, 'index_closed_exception', 'retry'],
  [400, 'validation_exception', 'retry'],
  [400, 'document_parsing_exception', 'rejected'],
  [400, 'mapper_parsing_exception', 'rejected'],
  [403, 'x', 'rejected'],
  [404, 'x', 'rejected'],
  [413, 'x', 'rejected'],
];

test.each(TABLE)('an item of status %d with %j is %s', (status, type, is) => {
  const outcome = classifyItem(status, type === '' ? undefined : { type, reason: 'why' });
  const reason = `${type}: why`;
  expect(outcome).toEqual(
    {
      delivered: { is: 'delivered' },
      duplicate: { is: 'delivered', duplicate: true },
      retry: { is: 'retry', reason },
      throttled: { is: 'retry', reason, throttled: true },
      rejected: { is: 'rejected', reason, status },
    }[is],
  );
});

test('a reason is short and safe to print', () => {
  const outcome = classifyItem(400, { type: 'x', reason: `\u001b[31mred\nline ${'a'.repeat(100_000)}` });
  const reason = outcome.is === 'rejected' ? outcome.reason : '';
  expect(reason).toMatch(/^x: red line a+$/);
  expect(reason).toHaveLength(512);
});

test('outcomes are in the order of the items, and a missing index is told', () => {
  const missing = {
    create: { _id: 'b', status: 404, error: { type: 'index_not_found_exception', reason: 'no such' } },
  };
  expect(classifyBulk(items, { items: [created('a'), missing] })).toEqual([
    { status: 201, outcome: { is: 'delivered' }, indexMissing: false },
    { status: 404, outcome: { is: 'retry', reason: 'index_not_found_exception: no such' }, indexMissing: true },
  ]);
});

test.each([
  ['nothing', undefined],
  ['a text', '<html>'],
  ['no items', {}],
  ['too few items', { items: [created('a')] }],
  ['too many items', { items: [created('a'), created('b'), created('c')] }],
  ['another order', { items: [created('b'), created('a')] }],
  ['another action', { items: [{ index: { _id: 'a', status: 201 } }, created('b')] }],
  ['no status', { items: [{ create: { _id: 'a' } }, created('b')] }],
  ['null items', { items: [null, null] }],
])('an answer with %s is incomplete', (_, answer) => {
  expect(() => classifyBulk(items, answer)).toThrow(expect.objectContaining({ failure: 'incomplete' }));
});

const named = (name: string, message: string, more: object = {}): Error =>
  Object.assign(new Error(message), { name, ...more });
const response = (statusCode: number, body: unknown = {}): Error =>
  named('ResponseError', 'x', {
    meta: { statusCode, body },
  });

test.each([
  [response(400), 'refused'],
  [response(401), 'unauthorized'],
  [response(403), 'unauthorized'],
  [response(404), 'server_error'],
  [response(406), 'server_error'],
  [response(408), 'timeout'],
  [response(413), 'too_large'],
  [response(429), 'throttled'],
  [response(500), 'server_error'],
  [response(503), 'server_error'],
  [named('TimeoutError', 'x'), 'timeout'],
  [named('DeserializationError', 'x'), 'incomplete'],
  [named('RequestAbortedError', 'The content length is bigger'), 'incomplete'],
  [named('ProductNotSupportedError', 'x'), 'server_error'],
  [named('ConnectionError', 'connect ECONNREFUSED 127.0.0.1:1'), 'unreachable'],
  [named('ConnectionError', ''), 'unreachable'],
  [named('ConnectionError', 'other side closed - Local: a, Remote: b'), 'unreachable'],
  [named('ConnectionError', 'certificate has expired'), 'tls'],
  [named('ConnectionError', 'self-signed certificate in certificate chain'), 'tls'],
  [named('ConnectionError', "Hostname/IP does not match certificate's altnames: x"), 'tls'],
  [named('ConnectionError', 'error:0A00010B:SSL routines::wrong version number'), 'tls'],
  [named('ConnectionError', 'terminated'), 'incomplete'],
  [named('TypeError', 'x'), 'server_error'],
])('a request that ends with %s is %s', (error, failure) => {
  expect(sendError(error, [])).toMatchObject({ name: 'SendError', failure });
});

test('refused credentials name node, reason and file, and nothing of the request', () => {
  const body = { error: { type: 'security_exception', reason: 'unable to authenticate' } };
  const error = sendError(response(401, body), ['/key'], 'https://es:9200/');
  expect(error.message).toBe(
    'Elasticsearch at https://es:9200/ answered 401 (security_exception: unable to authenticate): check /key and the rights they give',
  );
  expect(error.cause).toBeUndefined();
});
