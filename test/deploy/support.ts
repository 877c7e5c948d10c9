/** The manifests of deploy/, as files and as kubectl's kustomize makes them. */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { parseAllDocuments, stringify } from 'yaml';
import { PROJECT } from '../support/project.ts';

export const DEPLOY = join(PROJECT, 'deploy');
export const COMPONENTS = [
  'calico-api-server',
  'calico-enterprise',
  'copies',
  'elasticsearch',
  'fewer-rights',
  'openshift',
  'operator',
  'pod-monitor',
  'pod-networks',
  'policy',
  'prometheus-rules',
  'response',
  'rule-server',
  'rules',
  'rules-image',
] as const;

export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
}

export interface PodTemplate {
  metadata: { labels: Record<string, string>; annotations: Record<string, string> };
  spec: {
    containers: Container[];
    volumes: { name: string; hostPath?: { path: string; type: string }; emptyDir?: object; configMap?: object }[];
  } & Record<string, unknown>;
}

export interface Container {
  name: string;
  image: string;
  command: string[];
  args: string[];
  env: { name: string; value?: string; valueFrom?: object }[];
  resources: { requests: Record<string, string>; limits: Record<string, string> };
  securityContext: { capabilities: { drop: string[]; add: string[] } } & Record<string, unknown>;
  volumeMounts: { name: string; mountPath: string; readOnly?: boolean }[];
}

export interface DaemonSet extends Manifest {
  spec: { selector: object; updateStrategy: object; template: PodTemplate };
}

/** The objects of YAML text. */
export function objects(text: string): Manifest[] {
  return parseAllDocuments(text).flatMap((document) =>
    document.contents === null ? [] : [document.toJS() as Manifest],
  );
}

/** The objects of a file below deploy/. */
export function read(file: string): Manifest[] {
  return objects(readFileSync(join(DEPLOY, file), 'utf8'));
}

/** The one object of that kind. */
export function one(all: Manifest[], kind: string): Manifest {
  const [found, ...more] = all.filter((object) => object.kind === kind);
  if (found === undefined || more.length > 0) throw new Error(`not one object of kind ${kind}`);
  return found;
}

export function daemonSetOf(all: Manifest[]): DaemonSet {
  return one(all, 'DaemonSet') as DaemonSet;
}

/** What the agent's pods are: of the DaemonSet, or of the template that the operator makes one from. */
export function podsOf(all: Manifest[]): PodTemplate {
  const template = all.find(({ kind }) => kind === 'PodTemplate') as (Manifest & { template: PodTemplate }) | undefined;
  return template?.template ?? daemonSetOf(all).spec.template;
}

/** The only container of a DaemonSet's pods. */
export function containerOf({ spec: { template } }: { spec: { template: PodTemplate } }): Container {
  const [container, ...more] = template.spec.containers;
  if (container === undefined || more.length > 0) throw new Error('one container is expected');
  return container;
}

/** As an operator makes one, in a folder outside deploy/. @returns its path; the caller removes `parent`. */
export function overlay(components: readonly string[]): { folder: string; parent: string } {
  const parent = mkdtempSync(join(tmpdir(), 'dpi-deploy-'));
  const folder = join(parent, 'overlay');
  mkdirSync(folder);
  const base = relative(folder, DEPLOY);
  const kustomization = {
    apiVersion: 'kustomize.config.k8s.io/v1beta1',
    kind: 'Kustomization',
    resources: [base],
    components: components.map((name) => `${base}/components/${name}`),
    images: [{ name: 'dpi-agent', newName: 'registry.example/dpi-agent', newTag: 'test' }],
  };
  writeFileSync(join(folder, 'kustomization.yaml'), stringify(kustomization));
  return { folder, parent };
}
