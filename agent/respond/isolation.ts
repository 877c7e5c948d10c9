/**
 * An isolated pod: a label on it, and a NetworkPolicy that selects this label and lets DNS through, or nothing. All that
 * is known of it stands in the policy's annotations, so who began it need not be there to end it.
 *
 * The label's value is made from the pod's UID: a pod that is made again under its name is not isolated.
 */
import { createHash } from 'node:crypto';
import type { ApiObject } from '../kube/api.ts';
import { text, texts } from '../kube/fields.ts';
import { stripControls } from '../text.ts';

/** On the pod; its value is the policy's. */
export const POD_LABEL = 'dpi-agent.io/isolated';
/** On the policy: it is one of ours. */
export const POLICY_LABEL = 'dpi-agent.io/isolation';
export const NAME_PREFIX = 'dpi-agent-isolate-';
const PREFIX = 'dpi-agent.io/';
const MAX_TEXT = 500;

export const PASSAGES = ['nothing', 'dns'] as const;
/** What still goes through. */
export type Passage = (typeof PASSAGES)[number];

/**
 * By which policies: those of Kubernetes add up, so that another one can let through what this one does not; Calico's
 * stands before the others of its tier.
 */
export type Engine = 'networking.k8s.io' | 'projectcalico.org';
export const ENGINES: readonly Engine[] = ['projectcalico.org', 'networking.k8s.io'];

export interface Isolation {
  namespace: string;
  pod: string;
  podUid: string;
  allow: Passage;
  /** Who: a user of the cluster, or `policy <entry> on <node>`. */
  by: string;
  /** A person, or an entry of the policy of alerts. */
  origin: 'person' | 'policy';
  reason: string;
  /** Id of the alert that it is about. */
  alert?: string;
  /** RFC 3339. */
  since: string;
  until: string;
  /** That were taken from the pod, so that other policies do not select it any more; a release gives them back. */
  labels?: Readonly<Record<string, string>>;
}

/** As the cluster has it. */
export interface KnownIsolation extends Isolation {
  engine: Engine;
  /** Of the policy. */
  name: string;
  uid: string;
}

export function policiesPath(engine: Engine, namespace?: string, name?: string): string {
  const api = engine === 'projectcalico.org' ? 'projectcalico.org/v3' : 'networking.k8s.io/v1';
  const within = namespace === undefined ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
  return `/apis/${api}${within}/networkpolicies${name === undefined ? '' : `/${encodeURIComponent(name)}`}`;
}

export function podPath(namespace: string, pod: string): string {
  return `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}`;
}

/** The label's value, and the end of the policy's name. */
export function idOf(podUid: string): string {
  return createHash('sha256').update(podUid).digest('hex').slice(0, 16);
}

/** The object to create. */
export function policyOf(isolation: Isolation, engine: Engine): object {
  const id = idOf(isolation.podUid);
  const metadata = {
    // Calico's API server wants a policy's tier before its name.
    name: `${engine === 'projectcalico.org' ? 'default.' : ''}${NAME_PREFIX}${id}`,
    namespace: isolation.namespace,
    labels: { [POLICY_LABEL]: 'pod' },
    annotations: annotationsOf(isolation),
  };
  return engine === 'projectcalico.org'
    ? { apiVersion: 'projectcalico.org/v3', kind: 'NetworkPolicy', metadata, spec: calicoSpec(id, isolation.allow) }
    : {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata,
        spec: kubernetesSpec(id, isolation.allow),
      };
}

/** https://kubernetes.io/docs/concepts/services-networking/network-policies: what no rule names is cut. */
function kubernetesSpec(id: string, allow: Passage): object {
  const dns = {
    to: [
      {
        namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'kube-system' } },
        podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } },
      },
    ],
    ports: ['UDP', 'TCP'].map((protocol) => ({ protocol, port: 53 })),
  };
  return {
    podSelector: { matchLabels: { [POD_LABEL]: id } },
    policyTypes: ['Ingress', 'Egress'],
    ingress: [],
    egress: allow === 'dns' ? [dns] : [],
  };
}

/** https://docs.tigera.io/calico/latest/reference/resources/networkpolicy: the lowest order is asked first. */
function calicoSpec(id: string, allow: Passage): object {
  const dns = ['UDP', 'TCP'].map((protocol) => ({
    action: 'Allow',
    protocol,
    destination: {
      selector: "k8s-app == 'kube-dns'",
      namespaceSelector: "projectcalico.org/name == 'kube-system'",
      ports: [53],
    },
  }));
  return {
    tier: 'default',
    order: -1_000_000,
    selector: `${POD_LABEL} == '${id}'`,
    types: ['Ingress', 'Egress'],
    ingress: [{ action: 'Deny' }],
    egress: [...(allow === 'dns' ? dns : []), { action: 'Deny' }],
  };
}

function annotationsOf(isolation: Isolation): Record<string, string> {
  const { pod, podUid, alert, reason, by, origin, allow, since, until, labels } = isolation;
  const values = {
    pod,
    'pod-uid': podUid,
    by: plain(by),
    reason: plain(reason),
    ...(alert === undefined ? {} : { alert: plain(alert) }),
    origin,
    allow,
    since,
    until,
    ...(labels === undefined ? {} : { labels: JSON.stringify(labels) }),
  };
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [`${PREFIX}${key}`, value]));
}

/** What the annotation says, whatever it holds. */
function takenLabels(json: string): Pick<Isolation, 'labels'> {
  if (json === '') return {};
  try {
    return { labels: texts(JSON.parse(json)) };
  } catch {
    return {};
  }
}

function plain(value: string): string {
  return stripControls(value.slice(0, MAX_TEXT));
}

/** Undefined: it is none of ours, or was changed so that it says nothing. */
export function isolationOf({ metadata }: ApiObject, engine: Engine): KnownIsolation | undefined {
  if (metadata.labels?.[POLICY_LABEL] === undefined || !metadata.name.includes(NAME_PREFIX)) return undefined;
  const all = texts(metadata.annotations);
  const value = (key: string): string => text(all[`${PREFIX}${key}`]);
  const allow = PASSAGES.find((one) => one === value('allow'));
  if (value('pod') === '' || allow === undefined || Number.isNaN(Date.parse(value('until')))) return undefined;
  return {
    namespace: metadata.namespace ?? '',
    pod: value('pod'),
    podUid: value('pod-uid'),
    allow,
    by: plain(value('by')),
    origin: value('origin') === 'policy' ? 'policy' : 'person',
    reason: plain(value('reason')),
    ...(value('alert') === '' ? {} : { alert: plain(value('alert')) }),
    since: value('since'),
    until: value('until'),
    ...takenLabels(value('labels')),
    engine,
    name: metadata.name,
    uid: metadata.uid,
  };
}
