/** `when` and `quiet` of a sink: which events it takes, and how alike ones become one. */
import * as z from 'zod';
import { about, integer, list, millis, text } from '../leaves.ts';

const GLOB = /^[a-z0-9.*-]{1,253}$/;
const QUALIFIED_GLOB = /^[a-z0-9.*-]{1,63}\/[a-z0-9.*-]{1,253}$/;
const SIGNATURE = /^(\d{1,10}:)?\d{1,10}$/;

/** One or a list of them, as in a policy file; of none, none would ever hold. */
const values = <T extends z.ZodType>(item: T) =>
  z.preprocess(
    (value) => (typeof value === 'number' ? [value] : value),
    list(item).refine((items) => items.length > 0),
  );

/** YAML takes 21562 for a number. */
const signature = () =>
  z.preprocess((value) => (typeof value === 'number' ? String(value) : value), z.string().regex(SIGNATURE));

/** All that are given have to hold; of several values of one, any. */
export const when = z.strictObject({
  severity: about(
    integer(0, 100).optional(),
    'an integer from 0 to 100',
    'At least this severe: priority 1 is 100, each further one 20 less, 50 without one.',
  ),
  namespace: about(
    values(z.string().regex(GLOB)).optional(),
    'names of namespaces, with * for any characters',
    "The namespace of the event's resource.",
  ),
  resource: about(
    values(z.string().regex(QUALIFIED_GLOB)).optional(),
    'a list of <namespace>/<name>, with * for any characters',
    'The DeepPacketInspection.',
  ),
  pod: about(
    values(z.string().regex(QUALIFIED_GLOB)).optional(),
    'a list of <namespace>/<name>, with * for any characters',
    'The inspected pod.',
  ),
  signature: about(values(signature()).optional(), 'signatures such as 21562 or 1:21562', 'The signature that fired.'),
  class: about(
    values(text(256)).optional(),
    "classes' names such as misc-activity, or their texts",
    "The signature's class.",
  ),
  tactic: about(
    values(text(128)).optional(),
    "MITRE's tactics, such as TA0011 or Command and Control",
    'The tactic that the event names.',
  ),
});

export const quiet = z.strictObject({
  every: about(
    millis(1000, 86_400_000).prefault('10m'),
    'a time from 1s to 1d, such as 10m',
    'How long alike events are held back, to go out as one with their count.',
  ),
  after: about(
    integer(1, 1000).prefault(1),
    'an integer from 1 to 1000',
    'So many alike ones go out at once before others are held back.',
  ),
  alike: about(
    list(z.enum(['signature', 'class', 'resource', 'namespace', 'source', 'destination'])).prefault([
      'signature',
      'resource',
    ]),
    'a list of signature, class, resource, namespace, source, destination',
    'What alike events have in common; with an empty list, all are alike.',
  ),
});
