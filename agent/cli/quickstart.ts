/** `dpi-agent quickstart`: from a kubeconfig to agents that inspect, and a proof that they do. */
import type { Argv, CommandModule } from 'yargs';
import { createSelect, selectorOf } from '../endpoints/select.ts';
import { messageOf } from '../files/errors.ts';
import { ApiError } from '../kube/api.ts';
import { listPods } from '../kube/pods.ts';
import { discoverResourceApi, type ApiDeepPacketInspection, type ResourceApi } from '../kube/resources.ts';
import { SelectorError } from '../kube/selector/selector.ts';
import { CommandError, EXIT } from './exit.ts';
import { agreed } from './quickstart/agree.ts';
import { LABEL, manifests, nameOf, pathOf, type Manifest } from './quickstart/manifests.ts';
import { applyAll, existing, untilReady, untilServed } from './quickstart/roll-out.ts';
import { tryOut, type Client } from './quickstart/trial.ts';
import { until } from './quickstart/wait.ts';
import { CLUSTER_FLAGS, connect, readConfig } from './setup.ts';
import { version } from './version.ts';

interface QuickstartArgv {
  selector: string;
  namespace: string;
  image: string;
  trial: boolean;
  yes: boolean;
  timeout: number;
}

const OWN = ['selector', 'namespace', 'image', 'trial', 'yes', 'timeout'];
const NAME = 'quickstart';
const LISTED = 10;
const STATUS_MILLIS = 60_000;

export const command: CommandModule<object, QuickstartArgv> = {
  command: 'quickstart',
  builder: (args: Argv) =>
    args
      .options(CLUSTER_FLAGS)
      .option('selector', { alias: 's', type: 'string', default: 'all()', describe: 'Which pods are inspected' })
      .option('namespace', { alias: 'n', type: 'string', default: 'default', describe: 'Of the pods' })
      .option('image', { type: 'string', default: `dpi-agent:${version()}`, describe: 'As nodes get it' })
      .option('trial', { type: 'boolean', default: true, describe: 'A harmless request between two pods of its own' })
      .option('yes', { alias: 'y', type: 'boolean', default: false, describe: 'Apply without asking' })
      .option('timeout', { type: 'number', default: 300, describe: 'Seconds until agents have to be ready' })
      .strict(false)
      .example(`$0 quickstart --image registry.example/dpi-agent:0.1.0`, 'what it would do, and then, asked, does')
      .example(`$0 quickstart -n shop -s 'app == "web"' --yes`, 'one app of one namespace, without asking')
      .example('$0 uninstall', 'takes all of it away again'),
  handler: run,
};

async function run(argv: QuickstartArgv): Promise<void> {
  const client = await connect(readConfig({ ...argv }, OWN));
  try {
    const served = await discoverResourceApi(client);
    const wanted = manifests(argv.image, served === undefined || (await isOurs(client, served)));
    const resource = resourceOf(argv, served ?? 'projectcalico.org/v3');
    await showPlan(client, [...wanted, resource]);
    await showSelected(client, argv);
    if (!argv.yes && !(await agreed('Apply it?', say))) return;
    await start(client, argv, wanted, resource);
  } catch (error) {
    if (error instanceof ApiError) throw new CommandError(error.message, EXIT.failed);
    throw error;
  }
}

/** Not another project's: what serves the resources there stays as it is. */
async function isOurs(client: Client, api: ResourceApi): Promise<boolean> {
  if (api !== 'projectcalico.org/v3') return false;
  const path = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/deeppacketinspections.projectcalico.org';
  try {
    const { metadata } = await client.get<ApiDeepPacketInspection>(path);
    return Object.entries(LABEL).every(([name, value]) => metadata.labels?.[name] === value);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return false;
    throw error;
  }
}

function resourceOf({ namespace, selector }: QuickstartArgv, apiVersion: ResourceApi): Manifest {
  try {
    selectorOf({ selector });
  } catch (error) {
    if (error instanceof SelectorError) throw new CommandError(`--selector: ${messageOf(error)}`);
    throw error;
  }
  const metadata = { name: NAME, namespace, labels: LABEL };
  return { apiVersion, kind: 'DeepPacketInspection', metadata, spec: { selector } };
}

async function showPlan(client: Client, wanted: Manifest[]): Promise<void> {
  const there = new Set(await existing(client, wanted));
  say(`On ${client.server}:`);
  for (const manifest of wanted) say(`  ${there.has(manifest) ? 'set   ' : 'create'} ${nameOf(manifest)}`);
}

async function showSelected(client: Client, { namespace, selector }: QuickstartArgv): Promise<void> {
  const resource = { key: `${namespace}/${NAME}`, namespace, name: NAME, uid: '', selector, annotations: {} };
  const selection = createSelect()([resource], await listPods(client, namespace));
  const pods = selection.resources.get(resource.key)?.pods ?? [];
  say(`\n${selector} selects ${pods.length} ${pods.length === 1 ? 'pod' : 'pods'} of namespace ${namespace}:`);
  for (const key of pods.slice(0, LISTED)) say(`  ${key}`);
  if (pods.length > LISTED) say(`  and ${pods.length - LISTED} more`);
}

async function start(client: Client, argv: QuickstartArgv, wanted: Manifest[], resource: Manifest): Promise<void> {
  const { image, trial, timeout } = argv;
  say('');
  await applyAll(client, wanted, say);
  const api = await untilServed(client);
  await applyAll(client, [{ ...resource, apiVersion: api }], say);
  const nodes = await untilReady(client, timeout * 1_000);
  say(`agents inspect on ${nodes} ${nodes === 1 ? 'node' : 'nodes'}: a canary came through each`);
  if (trial) say(`a test request raised its alert within ${Math.ceil((await tryOut(client, api, image)) / 1_000)} s`);
  await showStatus(client, pathOf({ ...resource, apiVersion: api }));
  say(`
Alerts of a node, in a browser on http://127.0.0.1:9098:
  kubectl -n tigera-dpi exec daemonset/tigera-dpi -- dpi-agent ui --config /etc/dpi-agent/dpi-agent.yaml --access none &
  kubectl -n tigera-dpi port-forward daemonset/tigera-dpi 9098
What is inspected: kubectl get dpi -A
Away with it all: dpi-agent uninstall`);
}

async function showStatus(client: Client, path: string): Promise<void> {
  const status = await until(
    STATUS_MILLIS,
    async () => (await client.get<ApiDeepPacketInspection>(path)).status ?? undefined,
    () => '',
  ).catch((error: unknown) => {
    // Without a pod that it selects, a resource has no status.
    if (error instanceof CommandError) return undefined;
    throw error;
  });
  if (status === undefined) say('no pod is selected yet, or none is captured: kubectl describe dpi -A');
  else
    say(`pods captured: ${status.podsCaptured ?? 0} on ${status.nodesActive ?? 0} nodes, ${status.errors ?? 0} errors`);
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
