/** The manifests of deploy/ that quickstart applies, in the order in which a cluster takes them. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import { record, text, texts } from '../../kube/fields.ts';

export const NAMESPACE = 'tigera-dpi';
/** On all of them, so that uninstall finds what is this project's. */
export const LABEL = { 'app.kubernetes.io/name': 'dpi-agent' };

const CRDS = ['crds/projectcalico.org/deeppacketinspections.yaml'];
const FILES = ['namespace.yaml', 'rbac.yaml', 'configmap.yaml', 'daemonset.yaml'];

export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  [field: string]: unknown;
}

/** Collections of the API, by kind. */
const COLLECTIONS: Record<string, string> = {
  Namespace: 'namespaces',
  ServiceAccount: 'serviceaccounts',
  ClusterRole: 'clusterroles',
  ClusterRoleBinding: 'clusterrolebindings',
  ConfigMap: 'configmaps',
  DaemonSet: 'daemonsets',
  Pod: 'pods',
  CustomResourceDefinition: 'customresourcedefinitions',
  DeepPacketInspection: 'deeppacketinspections',
};

/** @throws Error where the kind is none of those above. */
export function pathOf({ apiVersion, kind, metadata: { name, namespace } }: Manifest): string {
  const collection = COLLECTIONS[kind];
  if (collection === undefined) throw new Error(`there is no path for kind ${kind}`);
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const place = namespace === undefined ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
  return `${group}${place}/${collection}/${encodeURIComponent(name)}`;
}

/** @param withCrd Whether the resources' kind is among them, which another project's API server may serve already. */
export function manifests(image: string, withCrd: boolean): Manifest[] {
  return [...(withCrd ? CRDS : []), ...FILES].flatMap(readManifests).map((manifest) => labelled(manifest, image));
}

function readManifests(file: string): Manifest[] {
  const [place] = ['../../deploy/', '../../../deploy/', '../../../../deploy/']
    .map((up) => fileURLToPath(new URL(up, import.meta.url)))
    .filter((folder) => existsSync(join(folder, file)));
  if (place === undefined)
    throw new Error(`deploy/${file} is not beside this program: run it from a clone of the project`);
  const documents = parseAllDocuments(readFileSync(join(place, file), 'utf8'));
  return Array.isArray(documents) ? documents.map((document) => document.toJS() as Manifest) : [];
}

function labelled(manifest: Manifest, image: string): Manifest {
  const metadata = { ...manifest.metadata, labels: { ...manifest.metadata.labels, ...LABEL } };
  if (manifest.kind !== 'DaemonSet') return { ...manifest, metadata };
  const spec = record(manifest['spec']);
  const template = record(spec['template']);
  const pods = record(template['spec']);
  const containers = (pods['containers'] as object[]).map((container) => ({ ...container, image }));
  const labels = { ...texts(record(template['metadata'])['labels']), ...LABEL };
  const changed = { ...template, metadata: { ...record(template['metadata']), labels }, spec: { ...pods, containers } };
  return { ...manifest, metadata, spec: { ...spec, template: changed } };
}

/** `Kind name`, or `Kind namespace/name`. */
export function nameOf({ kind, metadata: { name, namespace } }: Manifest): string {
  return `${kind} ${namespace === undefined ? name : `${namespace}/${text(name)}`}`;
}
