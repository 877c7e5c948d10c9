/** Which node gets which version: the first one proves it, the others wait for what it says. */
import { beforeEach, describe, expect, test } from '@jest/globals';
import type { HeldSet, ServedSet } from '../../agent/rulesets/served.ts';
import { createRollOut, type RollOut, type ServedVersion, type SetVersions } from '../../agent/ruleserver/rollout.ts';

const LEASE = 1_000;
const OLD = 'a'.repeat(64);
const NEW = 'b'.repeat(64);

const version = (digest: string, more: Partial<ServedVersion> = {}): ServedVersion => ({
  digest,
  version: digest.slice(0, 4),
  bytes: 10,
  rules: 1,
  engines: [],
  since: '',
  state: 'new',
  provers: [],
  ...more,
});

describe('a roll-out', () => {
  let versions: SetVersions;
  let rollOut: RollOut;
  let now: number;
  let changes: string[];

  beforeEach(() => {
    now = 0;
    changes = [];
    versions = { target: NEW, proven: OLD, versions: [version(OLD, { state: 'proven' }), version(NEW)] };
    rollOut = createRollOut(new Map([['community', versions]]), LEASE, (_, { state, provers }) =>
      changes.push(`${state} ${provers.join()}`),
    );
  });

  const held = (more: Partial<HeldSet> = {}): HeldSet => ({ digest: OLD, used: true, pinned: false, ...more });

  function ask(node: string, has: HeldSet | null = held(), more: object = {}): ServedSet {
    const sets = has === null ? {} : { community: has };
    const [served] = rollOut.answer({ node, engine: 'suricata', inspects: true, sets, ...more }, now);
    if (served === undefined) throw new Error('the set is not served');
    return served;
  }

  test('gives a new version to the first node that says what it has, and the proven one to the others', () => {
    expect(ask('n1')).toEqual({
      set: 'community',
      take: { digest: NEW, version: 'bbbb', bytes: 10, rules: 1, prove: true },
    });
    expect(ask('n2')).toMatchObject({
      take: { digest: OLD, prove: false },
      next: { digest: NEW, state: 'proving', node: 'n1' },
    });
    expect(ask('n1').take).toMatchObject({ digest: NEW, prove: true });
  });

  test('goes on to all nodes once the first one has it', () => {
    ask('n1');
    expect(ask('n1', held({ digest: NEW })).take).toMatchObject({ digest: NEW, prove: false });
    expect(ask('n2')).toEqual({ set: 'community', take: expect.objectContaining({ digest: NEW, prove: false }) });
    expect(versions).toMatchObject({ proven: NEW });
    expect(changes).toEqual(['new n1', 'proven n1']);
  });

  test('stops where the first node refuses it, with the reason, and nobody else gets it', () => {
    ask('n1');
    ask('n1', held({ refused: { digest: NEW, reason: 'the canary is missing' } }));
    for (const node of ['n1', 'n2']) {
      expect(ask(node)).toMatchObject({
        take: { digest: OLD },
        next: { digest: NEW, state: 'stopped', node: 'n1', reason: 'the canary is missing' },
      });
    }
  });

  test('asks another node where the first one does not come back, and stops after three', () => {
    expect(ask('n1').take?.prove).toBe(true);
    ask('n2');
    now += LEASE + 1;
    // Who had it may have died of it: not again while there is another.
    expect(ask('n1').take?.prove).toBe(false);
    expect(ask('n2').take?.prove).toBe(true);
    now += LEASE + 1;
    expect(ask('n1').take?.prove).toBe(true);
    now += LEASE + 1;
    expect(ask('n2').next).toMatchObject({ state: 'stopped', reason: expect.stringContaining('3 times') });
    expect(versions.versions.at(-1)?.provers).toEqual(['n1', 'n2', 'n1']);
  });

  test('lets the only node try again after its time', () => {
    ask('n1');
    now += LEASE + 1;
    expect(ask('n1').take?.prove).toBe(true);
  });

  test('does not give it to a node that has not said what it has, or that was rolled back', () => {
    expect(ask('n1', null).take).toMatchObject({ digest: OLD, prove: false });
    expect(ask('n2', held({ pinned: true })).take?.prove).toBe(false);
    expect(ask('n3').take?.prove).toBe(true);
  });

  test('prefers a node that is inspected by the set', () => {
    versions.target = OLD;
    ask('n1');
    versions.target = NEW;
    expect(ask('n2', held({ used: false })).take?.prove).toBe(false);
    expect(ask('n1').take?.prove).toBe(true);
  });

  test('of a server that forgot it is done once a node says that it has the version', () => {
    delete versions.proven;
    versions.versions = [version(NEW)];
    expect(ask('n2', held({ digest: NEW })).take).toMatchObject({ digest: NEW, prove: false });
  });

  test('gives what is not proven to who inspects by nothing, unless it is stopped', () => {
    delete versions.proven;
    versions.versions = [version(NEW)];
    expect(ask('n1', null, { inspects: false }).take).toMatchObject({ digest: NEW });
    ask('n2', held({ refused: { digest: NEW, reason: 'no' } }));
    expect(ask('n1', null, { inspects: false }).take).toBeUndefined();
  });

  test('keeps what the server’s engine refuses from nodes with that engine alone', () => {
    const engines = [
      { name: 'suricata' as const, version: '7', problem: 'it is for Snort' },
      { name: 'snort' as const, version: '3' },
    ];
    versions.versions = [version(NEW, { engines })];
    expect(ask('n1')).toMatchObject({ next: { state: 'stopped', reason: 'it is for Snort' } });
    expect(ask('n2', held(), { engine: 'snort' }).take?.prove).toBe(true);
  });

  test('counts nodes by what they have, and forgets those that are not heard of', () => {
    ask('n1');
    ask('n2', held({ digest: NEW }));
    expect(rollOut.nodes('community', now)).toEqual(
      new Map([
        [OLD, 1],
        [NEW, 1],
      ]),
    );
    now += 2 * LEASE;
    expect(rollOut.nodes('community', now)).toEqual(new Map());
  });
});
