/**
 * Holds the obligations of updates of rule sets. It knows which version was published with which bytes, and what each
 * lane's canary proved, and looks at the disk by itself.
 *
 * 12. The set's link leads to a version that is whole, or is not there.
 * 13. An agent begins with a version that every lane had proven, the last one or the one before, or with none before
 * the first was.
 * 14. An engine does not inspect for longer than a proof takes by a version that is not proven.
 * 15. When the faults have ended, the newest version is in use where it is well; else what was proven last is, and the
 * source says why.
 * 33. The disk does not say that a version is proven, by forgetting that it is not, before every lane has proven it.
 * 34. Once a version is proven, there is always one: who looks at any moment finds the set.
 */
import { basename, join } from 'node:path';
import type { EngineRules } from '../../../agent/engine/rules.ts';
import type { SourceStatus } from '../../../agent/rulesets/schedule.ts';
import type { Disk } from '../disk.ts';
import { filesOf, inspectedBy, versionOf, type Publisher } from './publisher.ts';

export const RULES = '/var/lib/rules';
export const STATE = '/var/lib/dpi-agent/rules';
export const SET = 'own';
const NOTE = join(RULES, '.versions', SET, '.unproven.json');
export const linkOf = (): string => join(RULES, SET);
/** All lanes, one after the other, there and back again. */
const MAX_PROOF_MILLIS = 300_000;

export interface UpdatesOracle {
  broken(): string | undefined;
  /** The process begins to inspect by these. */
  begun(rules: EngineRules): void;
  inspects(lane: string, rules: EngineRules): void;
  proved(lane: string, rules: EngineRules): void;
  /** What the sources say as the process ends. */
  ending(status: readonly SourceStatus[]): void;
  /** The process has ended, or the link has just been replaced. */
  look(): void;
  /** Before a file or a link goes. */
  unlinking: (path: string) => void;
  /** All faults have ended, and time has passed. */
  settled(): void;
  stuck(): void;
  facts(): { proven: number };
}

export function createUpdatesOracle(disk: Disk, publisher: Publisher, lanes: number, now: () => number): UpdatesOracle {
  /** In order, each of them once for each time that it came to be the last. */
  const proven: number[] = [];
  const provenBy = new Map<number, Set<string>>();
  const inspecting = new Map<string, { version: number | undefined; since: number }>();
  let status: readonly SourceStatus[] = [];
  let broken: string | undefined;

  function fail(obligation: number, message: string): void {
    broken ??= `obligation ${obligation}: ${message}`;
  }

  function lookAtLanes(): void {
    for (const [lane, { version, since }] of inspecting) {
      if (version === undefined || proven.includes(version) || now() - since < MAX_PROOF_MILLIS) continue;
      fail(14, `${lane} inspects by version ${version}, which is not proven`);
    }
  }

  function lookAtLink(): number | undefined {
    const target = disk.target(linkOf());
    if (target === undefined) return undefined;
    const folder = join(RULES, target);
    const version = versionOf(disk.peek(join(folder, 'a.rules'))?.toString() ?? '');
    if (version === undefined) {
      fail(12, `the link leads to ${target}, which has no rules`);
      return undefined;
    }
    const isWhole =
      disk.peek(join(folder, 'version.json')) !== undefined &&
      Object.entries(filesOf(version)).every(([name, text]) => disk.peek(join(folder, name))?.toString() === text);
    if (!isWhole) fail(12, `the link leads to ${target}, which is not whole`);
    return version;
  }

  /** The link leads to the version that is told to be unproven, and that is no longer told. */
  function lookAtProof(): void {
    const note = disk.peek(NOTE)?.toString() ?? '';
    const target = disk.target(linkOf());
    const noted = /"version":"([^"]+)"/.exec(note)?.[1];
    if (noted === undefined || target === undefined || basename(target) !== noted) return;
    const version = lookAtLink();
    if (version !== undefined && !proven.includes(version)) fail(33, `version ${version} is taken for proven`);
  }

  return {
    broken: () => broken,
    unlinking(path) {
      if (path === NOTE) lookAtProof();
      if (path === linkOf() && proven.length > 1) fail(34, 'the link goes, and the set with it');
    },
    begun(rules) {
      const version = inspectedBy(rules);
      if (version === undefined && proven.length > 1)
        fail(13, `it begins without the set, of which ${proven.at(-1)} is proven`);
      if (version !== undefined && !proven.slice(-2).includes(version))
        fail(13, `it begins with version ${version}; proven are ${proven.slice(-2).join(' and ') || 'none'}`);
    },
    inspects(lane, rules) {
      lookAtLanes();
      const version = inspectedBy(rules);
      if (inspecting.get(lane)?.version !== version) inspecting.set(lane, { version, since: now() });
    },
    proved(lane, rules) {
      const version = inspectedBy(rules);
      if (version === undefined) return;
      const by = provenBy.get(version) ?? new Set();
      provenBy.set(version, by.add(lane));
      if (by.size === lanes && proven.at(-1) !== version) proven.push(version);
    },
    ending: (said) => void (status = said),
    look() {
      lookAtLink();
      lookAtLanes();
    },
    settled() {
      const version = lookAtLink();
      const newest = publisher.newest();
      const isGood = publisher.kindOf(newest) === 'good';
      // An update that was cut off right behind its proof is undone as well.
      const before = [...(proven.length < 2 ? [undefined] : []), ...proven.slice(-2)];
      const expected = isGood ? [newest] : before;
      if (!expected.includes(version))
        fail(15, `version ${version} is on the disk; it should be ${expected.join(' or ')}`);
      for (const [lane, { version: its }] of inspecting)
        if (its !== version) fail(15, `${lane} inspects by version ${its}; ${version} is on the disk`);
      const state = status[0]?.state;
      const wanted = isGood ? 'current' : publisher.kindOf(newest) === 'page' ? 'failed' : 'refused';
      if (state !== wanted) fail(15, `the source is ${state}; it should be ${wanted}`);
    },
    stuck: () => fail(15, 'it does not come to an end'),
    facts: () => ({ proven: proven.length }),
  };
}
