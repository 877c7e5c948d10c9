/** `dpi-agent explain`: which pods a selector selects, and what would come of it, without inspecting anything. */
import { readFileSync } from 'node:fs';
import { parseAllDocuments } from 'yaml';
import type { Argv, CommandModule } from 'yargs';
import { explain, type Explanation } from '../endpoints/explain.ts';
import { selectorOf } from '../endpoints/select.ts';
import { messageOf } from '../files/errors.ts';
import type { ApiClient, ApiList } from '../kube/api.ts';
import { ApiError } from '../kube/api.ts';
import { listPods, type Pod } from '../kube/pods.ts';
import {
  discoverResourceApi,
  isCopy,
  resourcePath,
  toResource,
  type ApiDeepPacketInspection,
  type DeepPacketInspection,
} from '../kube/resources.ts';
import { SelectorError } from '../kube/selector/selector.ts';
import { whyNotInPods } from '../rights.ts';
import { stripControls } from '../text.ts';
import { CommandError, EXIT } from './exit.ts';
import { coloursOf, columnsOf, grouped } from './print.ts';
import { CLUSTER_FLAGS, COMMON_FLAGS, connect, readConfig } from './setup.ts';
import { paintLine, tableLines, type Line } from './table.ts';

interface ExplainArgv {
  selector?: string;
  namespace?: string;
  file?: string;
  output: string;
}

const OWN = ['output', 'selector', 'namespace', 'file'];

export const command: CommandModule<object, ExplainArgv> = {
  command: 'explain',
  builder: (args: Argv) =>
    args
      .options({ config: COMMON_FLAGS.config, ...CLUSTER_FLAGS })
      .option('selector', { alias: 's', type: 'string', describe: 'A selector to try' })
      .option('namespace', { alias: 'n', type: 'string', describe: 'Its namespace [default]' })
      .option('file', {
        alias: 'f',
        type: 'string',
        describe: 'A file with DeepPacketInspection resources (YAML or JSON)',
      })
      .option('output', {
        alias: 'o',
        choices: ['table', 'json'],
        default: 'table',
        describe: 'json: one object a pod and line',
      })
      .conflicts('selector', 'file')
      .strict(false)
      .example(`$0 explain --selector 'app == "backend"' -n shop`, 'what this selector would inspect')
      .example('$0 explain -f dpi.yaml', 'the same for the resources of a file')
      .example('$0 explain -n shop', 'the resources that the cluster has there') as Argv<ExplainArgv>,
  handler: run,
};

async function run(argv: ExplainArgv): Promise<void> {
  const config = readConfig({ ...argv }, OWN);
  const client = await connect(config);
  try {
    const resources = await asked(argv, client);
    const pods = new Map<string, Pod[]>();
    for (const resource of resources) {
      const known = pods.get(resource.namespace) ?? (await listPods(client, resource.namespace));
      pods.set(resource.namespace, known);
      print(
        resource,
        explain(resource, known, config.node, { ...config.capture, barred: whyNotInPods() }),
        argv.output,
      );
    }
  } catch (error) {
    if (error instanceof ApiError) throw new CommandError(error.message, EXIT.failed);
    throw error;
  }
}

/** The resources to explain: of the command line, of a file, or those that the cluster has. */
async function asked({ selector, namespace, file }: ExplainArgv, client: ApiClient): Promise<DeepPacketInspection[]> {
  if (selector !== undefined) return [checked(resourceOf('selector', namespace ?? 'default', selector), '--selector')];
  if (file !== undefined) return readResources(file, namespace);
  const api = await discoverResourceApi(client);
  if (api === undefined) {
    throw new CommandError(
      `${client.server} serves no DeepPacketInspection resources: apply deploy/crds/projectcalico.org, or name a selector (--selector)`,
      EXIT.failed,
    );
  }
  const list = await client.get<ApiList<ApiDeepPacketInspection>>(resourcePath(api, namespace));
  const items = list.items.filter((item) => !isCopy(item));
  if (items.length === 0) {
    const where = namespace === undefined ? 'the cluster' : `namespace ${namespace}`;
    throw new CommandError(
      `there is no DeepPacketInspection in ${where}: name a selector (--selector) or a file (-f)`,
      EXIT.failed,
    );
  }
  return items.map(toResource);
}

function readResources(file: string, namespace: string | undefined): DeepPacketInspection[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new CommandError(`${file} cannot be read: ${messageOf(error)}`);
  }
  const documents = parseAllDocuments(text);
  if (!Array.isArray(documents)) throw new CommandError(`${file} is empty`);
  const resources = documents.flatMap((document, index) => {
    const [problem] = document.errors;
    if (problem !== undefined) throw new CommandError(`${file}: ${problem.message.split('\n')[0] ?? 'not YAML'}`);
    const object = document.toJS() as Partial<ApiDeepPacketInspection> & { items?: Partial<ApiDeepPacketInspection>[] };
    return (object?.items ?? [object])
      .filter((item) => item?.kind === 'DeepPacketInspection')
      .map((item) => {
        const where = `${file}, document ${index + 1}`;
        const name = item.metadata?.name ?? 'unnamed';
        const written = item.spec?.selector;
        if (typeof written !== 'string') throw new CommandError(`${where}: spec.selector of ${name} is not a text`);
        return checked(
          resourceOf(name, item.metadata?.namespace ?? namespace ?? 'default', written),
          `${where}: spec.selector`,
        );
      });
  });
  if (resources.length === 0) throw new CommandError(`${file} has no DeepPacketInspection`);
  return resources;
}

function resourceOf(name: string, namespace: string, selector: string): DeepPacketInspection {
  return { key: `${namespace}/${name}`, namespace, name, uid: '', selector, annotations: {} };
}

/** @throws CommandError with the place in the selector. */
function checked(resource: DeepPacketInspection, where: string): DeepPacketInspection {
  try {
    selectorOf(resource);
    return resource;
  } catch (error) {
    if (!(error instanceof SelectorError)) throw error;
    const line = stripControls(resource.selector);
    const pointer = line.length <= 200 ? `\n  ${line}\n  ${' '.repeat(error.position)}^` : '';
    throw new CommandError(`${where}: ${error.message}${pointer}`);
  }
}

/** `cali12345678901 (calico), net1 in the pod` */
function interfacesOf({ interface: name, side, by, inside = [] }: Explanation): string {
  if (name === undefined) return '-';
  const own = side === 'pod' ? `${name} in the pod` : `${name} (${by})`;
  return [own, ...inside.map((further) => `${further} in the pod`)].join(', ');
}

function print(resource: DeepPacketInspection, explanations: Explanation[], output: string): void {
  if (output === 'json') {
    for (const explanation of explanations)
      process.stdout.write(`${JSON.stringify({ resource: resource.key, ...explanation })}\n`);
    return;
  }
  const colours = coloursOf(process.stdout);
  const selected = explanations.filter((explanation) => explanation.selected).length;
  const inspected = explanations.filter((explanation) => explanation.inspected).length;
  process.stdout.write(
    `${colours.bold(resource.key)}  ${stripControls(resource.selector)}\n` +
      `selects ${grouped(selected)} of ${grouped(explanations.length)} pods in ${resource.namespace}; ${grouped(inspected)} can be inspected\n`,
  );
  if (explanations.length === 0) return;
  const columns = columnsOf(process.stdout);
  const rows = explanations.map((explanation): Line => {
    const paint = explanation.inspected ? 'green' : explanation.why?.startsWith('not ') === true ? 'dim' : 'yellow';
    const { pod, node, inspected: isInspected, why } = explanation;
    return [pod, node || '-', isInspected ? 'yes' : 'no', interfacesOf(explanation), why ?? ''].map((text) => ({
      text,
      paint,
    }));
  });
  const table = tableLines(['POD', 'NODE', 'INSPECTED', 'INTERFACE', 'WHY'], rows, columns, ['NODE', 'INTERFACE']);
  for (const line of table) process.stdout.write(`${paintLine(line, columns, colours)}\n`);
}
