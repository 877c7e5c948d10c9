/** `dpi-agent uninstall`: takes out of a cluster what quickstart, deploy/ or the operator brought into it. */
import type { Argv, CommandModule } from 'yargs';
import { ApiError, type ApiList, type ApiObject } from '../kube/api.ts';
import { CommandError, EXIT } from './exit.ts';
import { agreed } from './quickstart/agree.ts';
import { LABEL } from './quickstart/manifests.ts';
import { TRIAL, type Client } from './quickstart/trial.ts';
import { until } from './quickstart/wait.ts';
import { CLUSTER_FLAGS, connect, readConfig } from './setup.ts';

interface UninstallArgv {
  yes: boolean;
}

/** Whoever makes others again goes first; the kinds of resources, and all resources with them, go last. */
const COLLECTIONS = [
  '/apis/apps/v1/namespaces/tigera-dpi/deployments',
  '/apis/apps/v1/namespaces/tigera-dpi/daemonsets',
  '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings',
  '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies',
  '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings',
  '/apis/rbac.authorization.k8s.io/v1/clusterroles',
  '/api/v1/namespaces',
  '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
];
/** The operator's DaemonSet has its labels from its template. */
const SELECTOR = Object.entries(LABEL)
  .map(([name, value]) => `${name}=${value}`)
  .join(',');
const GONE_MILLIS = 180_000;

interface Found {
  path: string;
  uid: string;
}

export const command: CommandModule<object, UninstallArgv> = {
  command: 'uninstall',
  builder: (args: Argv) =>
    args
      .options(CLUSTER_FLAGS)
      .option('yes', { alias: 'y', type: 'boolean', default: false, describe: 'Remove without asking' })
      .strict(false)
      .example('$0 uninstall', 'what would go, and then, asked, goes')
      .example('$0 uninstall --kubeconfig admin.conf --yes', 'without asking'),
  handler: run,
};

async function run(argv: UninstallArgv): Promise<void> {
  const client = await connect(readConfig({ ...argv }, ['yes']));
  try {
    const found = await findAll(client);
    if (found.length === 0) return say(`there is nothing of dpi-agent on ${client.server}`);
    say(`On ${client.server} go, with all that is in them:`);
    for (const { path } of found) say(`  ${path.split('/').slice(-2).join(' ')}`);
    if (found.some(({ path }) => path.includes('deeppacketinspections')))
      say('All DeepPacketInspection resources of all namespaces are among them.');
    if (!argv.yes && !(await agreed('Remove it?', say))) return;
    for (const { path, uid } of found) await remove(client, path, uid);
    await until(
      GONE_MILLIS,
      async () => ((await findAll(client)).length === 0 ? true : undefined),
      async () =>
        `still there: ${(await findAll(client)).map(({ path }) => path).join(', ')}: kubectl describe says why`,
    );
    say('Removed. Journals and state stay on the nodes: /var/log/calico/snort-alerts, /var/lib/dpi-agent.');
  } catch (error) {
    if (error instanceof ApiError) throw new CommandError(error.message, EXIT.failed);
    throw error;
  }
}

async function findAll(client: Client): Promise<Found[]> {
  const found: Found[] = [];
  for (const collection of COLLECTIONS) {
    const items = await labelled(client, collection);
    for (const { metadata } of items) found.push({ path: `${collection}/${metadata.name}`, uid: metadata.uid });
  }
  // A trial that was broken off is in no collection of the others.
  return found.sort((a, b) => Number(b.path.endsWith(TRIAL)) - Number(a.path.endsWith(TRIAL)));
}

/** A kind that the cluster does not have has no objects. */
async function labelled(client: Client, collection: string): Promise<ApiObject[]> {
  try {
    return (await client.get<ApiList<ApiObject>>(collection, { labelSelector: SELECTOR })).items;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return [];
    throw error;
  }
}

async function remove(client: Client, path: string, uid: string): Promise<void> {
  try {
    await client.remove(path, uid);
    say(`removed ${path.split('/').slice(-2).join(' ')}`);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
