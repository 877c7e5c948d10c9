/**
 * What agents and a rule server say to each other: JSON over HTTPS, with the agent's token as `Authorization: Bearer`.
 *
 *     POST /v1/follow           what a node has, and what it is to have: see FollowRequest and FollowAnswer
 *     GET  /v1/files/<digest>   a version: a tar.gz of its rule files, named by its sha256
 *     GET  /v1/manifest         all that is served, and how far it is rolled out
 *
 * A node tells all that it has each time: neither side remembers what the other one was told. Bounded: sets, and the
 * length of each text.
 */
import * as z from 'zod';
import { stripControls } from '../text.ts';
import { SET_NAME } from './sets.ts';

export const FOLLOW_PATH = '/v1/follow';
export const MANIFEST_PATH = '/v1/manifest';
export const FILES_PATH = '/v1/files';
/** Of one server; further ones are not followed. */
export const MAX_SERVED_SETS = 64;
/** Of a request and of an answer. */
export const MAX_MESSAGE_BYTES = 1 << 20;
const MAX_REASON = 500;

export const DIGEST = /^[0-9a-f]{64}$/;

const digest = z.string().regex(DIGEST);
const set = z
  .string()
  .regex(SET_NAME)
  .refine((name) => name !== 'custom');
const reason = z.string().transform(shortReason);
const name = z.string().min(1).max(253).transform(stripControls);
const version = z.string().regex(/^[\w.+:-]{1,100}$/);
const count = z.int().min(0);

/** What a node has of a set. */
const held = z.object({
  /** Of the version that inspects, or is there for who needs it. */
  digest: digest.optional(),
  /** Whether something on the node is inspected by the set. */
  used: z.boolean(),
  /** Somebody rolled it back on the node: it takes nothing. */
  pinned: z.boolean(),
  /** The version that did not inspect there, and why. */
  refused: z.object({ digest, reason }).optional(),
});

export const followRequest = z.object({
  node: name,
  engine: z.enum(['snort', 'suricata']),
  /** Whether the node inspects by any rules: one that does not has nothing to lose. */
  inspects: z.boolean(),
  sets: z.record(set, held).refine((sets) => Object.keys(sets).length <= MAX_SERVED_SETS),
});

const offered = z.object({
  digest,
  /** The server's name of it. */
  version,
  bytes: count,
  rules: count,
  /** Whether this node is the first one: the others wait for what it says. */
  prove: z.boolean(),
});

/** The newest version, where a node is not to have it. */
const heldBack = z.object({
  digest,
  version,
  /** `waiting`: for a node that proves it; `proving`: by `node`; `stopped`: it is not rolled out. */
  state: z.enum(['waiting', 'proving', 'stopped']),
  node: name.optional(),
  reason: reason.optional(),
});

export const followAnswer = z.object({
  sets: z
    .array(z.object({ set, take: offered.optional(), next: heldBack.optional() }))
    .max(MAX_SERVED_SETS)
    .refine((sets) => new Set(sets.map((each) => each.set)).size === sets.length),
});

export type HeldSet = z.infer<typeof held>;
export type FollowRequest = z.infer<typeof followRequest>;
export type OfferedVersion = z.infer<typeof offered>;
export type HeldBack = z.infer<typeof heldBack>;
export type FollowAnswer = z.infer<typeof followAnswer>;
export type ServedSet = FollowAnswer['sets'][number];

/** What an engine, or somebody else's program, says, for one line. */
export function shortReason(text: string): string {
  return stripControls(text.slice(0, 4 * MAX_REASON).replaceAll(/\s+/g, ' ')).slice(0, MAX_REASON);
}

/** As people read it. */
export const shortDigest = (text: string): string => text.slice(0, 12);
