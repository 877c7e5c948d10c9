/** What `doctor` finds of a cluster: each right at the API server, and its clock. */
import type { Config } from '../../config/load.ts';
import type { Right } from '../../kube/api.ts';
import { discoverResourceApi } from '../../kube/resources.ts';
import type { Finding } from '../finding.ts';
import { connect, followsCluster } from '../setup.ts';
import { PROBE_MILLIS } from './limits.ts';

const CLOCK_WARNING_MILLIS = 5_000;
/** Tokens and certificates are refused beyond it. */
const CLOCK_ERROR_MILLIS = 60_000;

/** What the agent asks of the API server: the rules of deploy/rbac.yaml, but for the group of the resources. */
export const RIGHTS: (Omit<Right, 'verb' | 'group'> & { verbs: Right['verb'][]; what: string })[] = [
  { resource: 'pods', verbs: ['list', 'watch'], what: 'without it no pod of this node is found' },
  { resource: 'services', verbs: ['list'], what: 'without it events do not name Services' },
  { resource: 'deeppacketinspections', verbs: ['get', 'list', 'watch'], what: 'without it no resource is followed' },
  { resource: 'deeppacketinspections/status', verbs: ['get', 'patch'], what: 'without it no status is written' },
];

/** Each right by itself, and the server's clock. That it answers at all, `check` has said. */
export async function cluster(config: Config): Promise<Finding[]> {
  if (!followsCluster(config)) return [];
  const client = await connect(config).catch(() => undefined);
  if (client === undefined) return [];
  const signal = AbortSignal.timeout(PROBE_MILLIS);
  let api;
  try {
    api = await discoverResourceApi(client, signal);
  } catch {
    return [];
  }
  const served = api?.split('/')[0] ?? 'projectcalico.org';
  const findings: Finding[] = [];
  for (const { resource, verbs, what } of RIGHTS) {
    const group = resource.startsWith('deeppacketinspections') ? served : '';
    const full = group === '' ? resource : resource.replace(/^\w+/, (name) => `${name}.${group}`);
    for (const verb of verbs) {
      findings.push(
        (await client.may({ verb, group, resource }, signal))
          ? { level: 'ok', subject: 'api right', message: `${verb} ${full}` }
          : {
              level: 'error',
              subject: 'api right',
              message: `may not ${verb} ${full}: ${what}`,
              remedy: 'kubectl apply -f deploy/rbac.yaml',
            },
      );
    }
  }
  const ahead = client.clockAhead();
  if (ahead !== undefined) findings.push(clock(ahead, client.server));
  return findings;
}

/** @param ahead Milliseconds. */
export function clock(ahead: number, server: string): Finding {
  const seconds = Math.abs(Math.round(ahead / 1000));
  if (Math.abs(ahead) < CLOCK_WARNING_MILLIS) {
    return { level: 'ok', subject: 'clock', message: `within ${seconds + 1} s of ${server}` };
  }
  return {
    level: Math.abs(ahead) < CLOCK_ERROR_MILLIS ? 'warning' : 'error',
    subject: 'clock',
    message: `${seconds} s ${ahead > 0 ? 'behind' : 'ahead of'} ${server}: events have wrong times, and tokens may be refused`,
    remedy: 'timedatectl set-ntp true, or whatever keeps this machine in time',
  };
}
