/** Whose CRDs serve the resources: this project's, another one's, or nobody's. */
import type { Logger } from 'pino';
import { ApiError, type ApiClient, type ApiObject } from '../kube/api.ts';
import { record, text } from '../kube/fields.ts';

const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

type Owner = 'ours' | 'other' | 'none';

/** Of projectcalico.org/v3 and crd.projectcalico.org/v1. */
export interface Ownership {
  v3: Owner;
  v1: Owner;
}

export interface OwnershipOptions {
  client: ApiClient;
  /** Between two times that it is asked. */
  everyMillis: number;
  /** Ends it. */
  signal: AbortSignal;
  onChange: () => void;
  log: Logger;
}

/** @returns what gives the newest answer; undefined: not known, or, without the right to ask, not to be known. */
export function followOwnership(options: OwnershipOptions): () => Ownership | undefined {
  const { everyMillis, signal, onChange, log } = options;
  let ownership: Ownership | undefined;

  async function look(): Promise<void> {
    try {
      const owners = {
        v3: await ownerOf('projectcalico.org', options),
        v1: await ownerOf('crd.projectcalico.org', options),
      };
      const changed = owners.v3 !== ownership?.v3 || owners.v1 !== ownership.v1;
      ownership = owners;
      if (changed) onChange();
    } catch (error) {
      const isRefused = error instanceof ApiError && error.status === 403;
      if (isRefused) ownership = undefined;
      if (!signal.aborted && !isRefused) log.debug({ err: error }, 'it cannot be told whose CRDs there are');
    }
    if (!signal.aborted) timer = setTimeout(() => void look(), everyMillis).unref();
  }

  let timer = setTimeout(() => void look(), 0);
  signal.addEventListener('abort', () => clearTimeout(timer));
  return () => ownership;
}

async function ownerOf(group: string, { client, signal }: OwnershipOptions): Promise<Owner> {
  try {
    const crd = await client.get<ApiObject>(`${CRDS}/deeppacketinspections.${group}`, undefined, signal);
    return text(record(crd.metadata.labels)['app.kubernetes.io/name']) === 'dpi-agent' ? 'ours' : 'other';
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return 'none';
    throw error;
  }
}
