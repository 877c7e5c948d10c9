/** Policies of data streams, as Elasticsearch and OpenSearch keep them: no server of the tests has either. */
import { expect, test } from '@jest/globals';
import { createManager, type Answer, type Method } from '../../../agent/ship/elasticsearch/manage.ts';
import { indexBody, namesOf, templateBody } from '../../../agent/ship/elasticsearch/template.ts';

const names = namesOf('lab', 'calico', true);
const DAY = 86_400_000;
const POLICY = 'dpi-agent-events.lab';
const BACKING = '.ds-stream-000001';
/** Of a policy, where it is asked for. */
const ILM = `/_ilm/policy/${POLICY}`;
const ISM = `/_plugins/_ism/policies/${POLICY}`;

/** A cluster with stream and template, whose policy a test sets. */
function cluster(store: 'elasticsearch' | 'opensearch') {
  const said: string[] = [];
  const written: { method: Method; path: string; body?: object | undefined }[] = [];
  const keep = (fields: unknown, message = fields): void => void said.push(String(message));
  const lifecycle = { rolloverAge: 7 * DAY, deleteAfter: 90 * DAY };
  const manage = createManager(names, { info: keep, warn: keep }, { store, lifecycle });
  const answers = new Map<string, Answer>([
    [`/_data_stream/${names.index}`, { status: 200, body: { data_streams: [{ name: names.index }] } }],
    [
      `/${names.index}`,
      { status: 200, body: { [BACKING]: { ...indexBody(names), data_stream: names.index, aliases: {} } } },
    ],
    [
      `/_index_template/${names.template}`,
      { status: 200, body: { index_templates: [{ index_template: templateBody(names) }] } },
    ],
  ]);
  return {
    said,
    written,
    answers,
    round: () =>
      manage(async (method, path, body) => {
        if (method !== 'GET') written.push({ method, path, body });
        return (
          answers.get(method === 'GET' ? path : `${method} ${path}`) ?? {
            status: method === 'GET' ? 404 : 200,
            body: {},
          }
        );
      }),
  };
}

test('Elasticsearch gets the policy, then the template and the index that have it; what was changed is put back', async () => {
  const { round, written, answers, said } = cluster('elasticsearch');
  await round();
  const policy = {
    phases: {
      hot: { actions: { rollover: { max_age: '7d', max_primary_shard_size: '50gb' } } },
      delete: { min_age: '90d', actions: { delete: {} } },
    },
  };
  expect(written).toMatchObject([
    { method: 'PUT', path: ILM, body: { policy } },
    {
      method: 'PUT',
      path: `/_index_template/${POLICY}`,
      body: { template: { settings: { index: { lifecycle: { name: POLICY }, number_of_shards: 1 } } } },
    },
    { method: 'PUT', path: `/${BACKING}/_settings`, body: { index: { lifecycle: { name: POLICY } } } },
  ]);
  // As it comes back.
  const stored = structuredClone(policy) as { phases: { hot: object; delete: { actions: object } } };
  Object.assign(stored.phases.hot, { min_age: '0ms' });
  Object.assign(stored.phases.delete.actions, { delete: { delete_searchable_snapshot: true } });
  answers.set(ILM, { status: 200, body: { [POLICY]: { version: 1, policy: stored } } });
  written.length = 0;
  await round();
  expect(written.map(({ path }) => path)).not.toContain(ILM);
  stored.phases.hot = { actions: { rollover: { max_age: '8d', max_primary_shard_size: '50gb' } } };
  await round();
  expect(written.map(({ path }) => path)).toContain(ILM);
  expect(said).toContain('policy was changed: put back');
});

test('OpenSearch gets it, with the stream that has it; it is written over by its number', async () => {
  const { round, written, answers } = cluster('opensearch');
  await round();
  const [first, second, ...more] = written;
  expect(first).toMatchObject({
    path: ISM,
    body: {
      policy: {
        default_state: 'hot',
        states: [
          {
            name: 'hot',
            actions: [{ rollover: { min_index_age: '7d', min_primary_shard_size: '50gb' } }],
            transitions: [{ state_name: 'delete', conditions: { min_rollover_age: '90d' } }],
          },
          { name: 'delete', actions: [{ delete: {} }], transitions: [] },
        ],
        ism_template: [{ index_patterns: [names.index], priority: 500 }],
      },
    },
  });
  expect(second).toMatchObject({
    method: 'POST',
    path: `/_plugins/_ism/add/${names.index}`,
    body: { policy_id: POLICY },
  });
  expect(more).toEqual([]);
  if (first?.body === undefined) throw new Error('no policy');
  const { policy } = first.body as { policy: { description: string } };
  answers.set(ISM, { status: 200, body: { _id: POLICY, _seq_no: 4, _primary_term: 2, policy } });
  written.length = 0;
  await round();
  expect(written).toEqual([]);
  answers.set(ISM, { status: 200, body: { _seq_no: 4, _primary_term: 2, policy: { ...policy, description: 'mine' } } });
  await round();
  expect(written[0]?.path).toBe(`${ISM}?if_seq_no=4&if_primary_term=2`);
});

test.each([400, 405])(
  'a cluster without lifecycle management (%i) gets a stream without it; it is said once',
  async (status) => {
    const { round, written, answers, said } = cluster('elasticsearch');
    answers.set(ILM, { status, body: { error: 'no handler found' } });
    await round();
    await round();
    expect(written).toEqual([]);
    expect(said).toEqual([
      `the cluster has no index lifecycle management (ILM): the data stream ${names.index} neither rolls over nor loses old events`,
    ]);
  },
);

test('who may not write it, gets it said, and the stream without it', async () => {
  const { round, written, answers, said } = cluster('elasticsearch');
  answers.set(`PUT ${ILM}`, { status: 403, body: { error: { type: 'security_exception', reason: 'no' } } });
  await round();
  expect(written.map(({ path }) => path)).toEqual([ILM]);
  expect(said).toEqual([expect.stringContaining(`not permitted to write policy ${POLICY}`)]);
});

test.each([400, 405])('a cluster without data streams (%i) gets nothing, and that is said', async (status) => {
  const { round, answers } = cluster('elasticsearch');
  answers.set(`/_data_stream/${names.index}`, { status, body: {} });
  await expect(round()).rejects.toMatchObject({
    failure: 'server_error',
    message: `the cluster has no data streams (${status}): set the sink's dataStream to false`,
  });
});

test('an Elasticsearch 7 without ILM, which takes its path for an index, has none', async () => {
  const { round, written, answers, said } = cluster('elasticsearch');
  answers.set(`PUT ${ILM}`, { status: 400, body: { error: { type: 'invalid_index_name_exception', reason: '_ilm' } } });
  await round();
  expect(said).toEqual([expect.stringContaining('the cluster has no index lifecycle management (ILM)')]);
  expect(written.map(({ path }) => path)).toEqual([ILM]);
});
