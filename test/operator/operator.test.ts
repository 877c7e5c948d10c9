/** The operator with a cluster that is told what to say; operator.kubernetes.test.ts has a real one. */
import { afterEach, expect, test } from '@jest/globals';
import { pino } from 'pino';
import type { ApiClient, ApiObject } from '../../agent/kube/api.ts';
import { startOperator, type Operator } from '../../agent/operator/operator.ts';
import { apiError, scriptedClient, type Request } from '../kube/scripted-client.ts';
import { poll } from '../support/poll.ts';

const NAME = 'tigera-dpi';
const V3 = '/apis/projectcalico.org/v3';
const V1 = '/apis/crd.projectcalico.org/v1';
const DAEMON_SET = `/apis/apps/v1/namespaces/${NAME}/daemonsets/${NAME}`;
const DAEMON_SETS = `/apis/apps/v1/namespaces/${NAME}/daemonsets`;
const TEMPLATES = `/api/v1/namespaces/${NAME}/podtemplates`;
const CRD = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/deeppacketinspections';

const metadata = (name: string, namespace = NAME): ApiObject['metadata'] => ({
  name,
  namespace,
  uid: `uid of ${name}`,
  resourceVersion: '1',
});

const TEMPLATE = {
  metadata: metadata(NAME),
  template: { spec: { containers: [{ name: 'dpi-agent', image: 'a' }] } },
};

/** What GET of a path gives: an object, the items of a list, or a status. */
type Answers = Record<string, ApiObject | ApiObject[] | number>;

/** A cluster with one resource, whose CRDs are this project's. */
function answersOf(changes: Answers = {}): Answers {
  const ours = { metadata: { ...metadata('crd', ''), labels: { 'app.kubernetes.io/name': 'dpi-agent' } } };
  return {
    [`${V3}/deeppacketinspections`]: [{ metadata: metadata('a', 'shop'), spec: { selector: 'all()' } } as ApiObject],
    [`${V1}/deeppacketinspections`]: [],
    [DAEMON_SETS]: [],
    [TEMPLATES]: [TEMPLATE],
    '/apis/operator.tigera.io/v1/intrusiondetections': [],
    [`${CRD}.projectcalico.org`]: ours,
    [`${CRD}.crd.projectcalico.org`]: ours,
    ...changes,
  };
}

let operator: Operator | undefined;
afterEach(() => operator?.stop());

/** @param write Answers what is written beside the Lease. */
function start(answers: Answers, write: (request: Request) => unknown = () => ({ metadata: metadata('written') })) {
  let lease: object | undefined;
  const scripted = scriptedClient((request) => {
    const { method, path, patch } = request;
    if (path.includes('/leases')) {
      if (method !== 'GET') lease = { spec: {}, ...lease, ...patch, metadata: metadata('lease') };
      if (lease === undefined) throw apiError(404);
      return lease;
    }
    if (method !== 'GET') return write(request);
    if (path === V3) return { resources: [{ name: 'deeppacketinspections' }] };
    const answer = answers[path] ?? 404;
    if (typeof answer === 'number') throw apiError(answer);
    return Array.isArray(answer) ? { metadata: { resourceVersion: '1' }, items: answer } : answer;
  });
  const client: ApiClient = {
    ...scripted,
    watch: (_path, _query, _onEvent, signal, onOpen) =>
      new Promise((_resolve, reject) => {
        onOpen?.();
        signal.addEventListener('abort', () => reject(apiError()));
      }),
  };
  const started = startOperator({ client, identity: 'a', log: pino({ level: 'silent' }) });
  operator = started;
  const writes = (): string[] =>
    scripted.requests
      .filter(({ method, path }) => method !== 'GET' && !path.includes('/leases'))
      .map(({ method, path }) => `${method} ${path}`);
  return { operator: started, writes };
}

test('the leader applies the DaemonSet that a resource asks for, and copies the resource', async () => {
  const { operator: started, writes } = start(answersOf());
  await poll(() => new Set(writes()).size >= 2);
  expect(new Set(writes())).toEqual(
    new Set([`APPLY ${DAEMON_SET}`, `APPLY ${V1}/namespaces/shop/deeppacketinspections/a`]),
  );
  expect(started.problems()).toEqual([]);
  await poll(() => started.status().rounds.done >= 2);
  expect(started.status()).toMatchObject({
    leader: true,
    inspections: 1,
    verdict: { status: true },
    copies: 0,
    copiesTaken: 0,
  });
});

test('what is not known changes nothing, and is said', async () => {
  const { operator: started, writes } = start(answersOf({ [TEMPLATES]: 500, [`${CRD}.projectcalico.org`]: 403 }));
  await poll(() => started.status().rounds.done >= 2 && started.status().inspections !== undefined);
  expect(started.problems()).toEqual([`PodTemplates of namespace ${NAME} are not known yet`]);
  expect(started.status()).toMatchObject({ verdict: undefined, copies: undefined });
  expect(writes()).toEqual([]);
});

test('what the server finds wrong with the DaemonSet is the verdict, and is tried again', async () => {
  const { operator: started, writes } = start(answersOf({ [`${V1}/deeppacketinspections`]: 500 }), () => {
    throw apiError(422);
  });
  await poll(() => writes().length >= 2);
  expect(new Set(writes())).toEqual(new Set([`APPLY ${DAEMON_SET}`]));
  expect(started.status().verdict).toEqual({ status: false, reason: 'Refused', message: 'status 422' });
  expect(started.status().rounds.failed).toBeGreaterThanOrEqual(1);
});
