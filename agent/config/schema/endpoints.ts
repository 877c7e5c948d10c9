/** `endpoints`: interfaces that the configuration names. */
import { isIP } from 'node:net';
import * as z from 'zod';
import { about, label, list, qualified, subdomain, text } from '../leaves.ts';
import { ALWAYS, setName, repeated } from './common.ts';

/** Static endpoints that name no resource report under this one. */
export const DEFAULT_RESOURCE = 'default/dpi-agent';

const LABEL_KEY = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

const endpoint = z
  .strictObject({
    interface: about(
      z
        .string()
        .regex(/^[^\s/:\p{Cc}]+$/u)
        .refine((name) => Buffer.byteLength(name) <= 15 && name !== '.' && name !== '..'),
      'the name of an interface: 1 to 15 bytes, no "/", ":" or white space',
      "The interface to inspect: the host side of the pod's veth, or with netns an interface in the pod.",
    ),
    netns: about(
      text().optional(),
      'a path',
      'Network namespace that the interface is in, such as /run/netns/x; by default the one of the agent.',
    ),
    namespace: about(label().prefault('default'), 'a name of a namespace (RFC 1123 label)', "The pod's namespace."),
    pod: about(
      subdomain().optional(),
      'a name of a pod (RFC 1123 subdomain)',
      "The pod's name; by default the interface's.",
    ),
    owner: about(
      subdomain().optional(),
      'a name (RFC 1123 subdomain)',
      "The name of the pod's owner (its ReplicaSet); events then say `<owner>-*`.",
    ),
    labels: about(
      z.record(z.string().regex(LABEL_KEY), z.string().regex(LABEL_VALUE)).prefault({}),
      'Kubernetes labels: a mapping of names to texts (quote numbers and booleans)',
      "The pod's labels.",
    ),
    addresses: about(
      list(z.string().refine((address) => isIP(address) !== 0 && !address.includes('%'))).prefault([]),
      'a list of IPv4 and IPv6 addresses',
      "The workload's own addresses; they tell source from destination.",
    ),
    resource: about(
      qualified().optional(),
      '<namespace>/<name>',
      `The DeepPacketInspection that its events name as their origin; by default \`${DEFAULT_RESOURCE}\`.`,
    ),
    resources: about(
      list(qualified()).optional(),
      'a list of <namespace>/<name>',
      'The same, for more than one; each gets its own event.',
    ),
    ruleSets: about(
      list(setName()).optional(),
      'a list of names of rule sets',
      'The rule sets that it is inspected by; by default those of the key of this name above.',
    ),
    evidence: about(
      z.enum(['full', 'headers', 'off']).optional(),
      'one of full, headers, off',
      "What is kept of the packets of its alerts' flows; by default what evidence.keep says.",
    ),
  })
  .superRefine((value, context) => {
    if (value.resource !== undefined && value.resources !== undefined) {
      context.addIssue({ code: 'custom', path: ['resources'], message: 'expected resource or resources, not both' });
    }
    if (Array.isArray(value.resources) && value.resources.length === 0) {
      context.addIssue({ code: 'custom', path: ['resources'], message: 'expected at least one resource' });
    }
  }, ALWAYS);

export const endpoints = z
  .array(endpoint)
  .max(4093)
  .prefault([])
  .superRefine((entries, context) => {
    const interfaces = new Map<string, number>();
    const pods = new Map<string, number>();
    for (const [index, entry] of entries.entries()) {
      if (typeof entry?.interface !== 'string') continue;
      const name = `${entry.namespace}/${entry.pod ?? entry.interface}`;
      const key = entry.pod === undefined ? 'interface' : 'pod';
      const where = `${entry.interface} ${entry.netns ?? ''}`;
      const sameInterface = interfaces.get(where);
      const samePod = pods.get(name);
      if (sameInterface !== undefined) repeated(context, index, 'interface', ['endpoints', sameInterface]);
      if (samePod !== undefined && !(key === 'interface' && sameInterface !== undefined)) {
        repeated(context, index, key, ['endpoints', samePod], `the pod ${name}`);
      }
      interfaces.set(where, sameInterface ?? index);
      pods.set(name, samePod ?? index);
    }
  }, ALWAYS);
