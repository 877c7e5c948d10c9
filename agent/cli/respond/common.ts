/** What the commands of `respond` share. */
import type { Config } from '../../config/load.ts';
import { shown } from '../../config/text.ts';
import { ApiError } from '../../kube/api.ts';
import { NEVER, type Acting } from '../../respond/isolate.ts';
import { RespondError } from '../../respond/cut.ts';
import { CommandError, EXIT } from '../exit.ts';
import { coloursOf, columnsOf } from '../print.ts';
import { CLUSTER_FLAGS, COMMON_FLAGS, connect } from '../setup.ts';
import { paintLine, type Line } from '../table.ts';

export const RESPOND_FLAGS = {
  config: COMMON_FLAGS.config,
  ...CLUSTER_FLAGS,
  output: { alias: 'o', choices: ['table', 'json'], default: 'table', describe: 'json: for programs' },
} as const;

export const POD_ARGUMENT = {
  type: 'string',
  demandOption: true,
  describe: 'Namespace and name: shop/cart-0',
} as const;

/** @throws CommandError */
export function podOf(text: string): { namespace: string; pod: string } {
  const [, namespace, pod] = /^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)\/([a-z0-9][-a-z0-9.]{0,252})$/.exec(text) ?? [];
  const name = /\/(.*)$/.exec(text)?.[1];
  if (namespace === undefined || pod === undefined || name === undefined)
    throw new CommandError(`${shown(text)}: expected <namespace>/<pod>, such as shop/cart-0`);
  return { namespace, pod: name };
}

/** With the rights of whose kubeconfig it is. */
export async function actingOf(config: Config): Promise<Acting> {
  return {
    client: await connect(config),
    isProtected: [...NEVER, ...config.respondServing.protectedNamespaces],
    warn: (message) => void process.stderr.write(`dpi-agent: ${message}\n`),
  };
}

/** @throws CommandError in place of what the cluster refuses. */
export async function asCommand<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof RespondError || error instanceof ApiError)
      throw new CommandError(withoutRole(error.message), EXIT.failed);
    throw error;
  }
}

/** Who acts by hand is no agent. */
function withoutRole(message: string): string {
  return message.replace("the agent's ClusterRole needs", 'you need');
}

export function printLines(lines: readonly Line[]): void {
  const columns = columnsOf(process.stdout);
  for (const line of lines) process.stdout.write(`${paintLine(line, columns, coloursOf(process.stdout))}\n`);
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
