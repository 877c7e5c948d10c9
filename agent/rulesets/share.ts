/**
 * Rules that Suricata has once for VLAN ids of different rule sets: those of all of their sets. Of an endpoint's
 * alerts, those of rules that its resources did not ask for are dropped when they are read (membership.ts).
 *
 * Invariant: an endpoint gets the alerts that it would get by the rules of its own sets alone. So ids share rules only
 * while no rule that one of them did not ask for does more than alert: it counts towards a limit, which others would
 * miss; it keeps something from being inspected; it sets what the id's own rules test. Other ids are a tenant, with all
 * of its rules again.
 *
 * Not promised: the order of the alerts of one packet.
 */
import type { EngineRules, RulePolicy } from '../engine/rules.ts';
import { parseRules, ruleOptions, type RuleInfo, type RuleOption } from './rule.ts';
import type { IndexedRule, RuleIndex } from './sets.ts';

/** What rules do beside their alerts. */
interface Effects {
  /** Something that is of no flow alone, or that other rules do not inspect after. */
  acts: boolean;
  /** Variables of flows and packets: `flowbits:name`. */
  writes: Set<string>;
  reads: Set<string>;
}

/** The effects of all rules that are in the same sets. */
interface Group extends Effects {
  sets: readonly string[];
}

/** Sets that some VLAN ids have in common, with what their rules read. */
interface Combination {
  sets: ReadonlySet<string>;
  reads: ReadonlySet<string>;
}

/** VLAN ids that share rules. */
interface Context {
  combinations: Combination[];
  sets: Set<string>;
  vlans: number[];
}

/** Sets what is known of rules in common for all ids that may share them, and leaves policies for the others. */
export function shareRules(rules: EngineRules, index: RuleIndex): EngineRules {
  const { defaults, policies, overrides = '' } = rules;
  // Limits that are set there by signature are not looked at here.
  if (policies.length === 0 || overrides.includes('threshold-file')) return rules;
  const groups = groupsOf(index);
  const shared = contextOf(groups, defaults, []);
  const tenants: (Context & { id: number })[] = [];
  for (const { id, sets, vlans } of policies) {
    const own = contextOf(groups, sets, vlans);
    const host = [shared, ...tenants].find((context) => mayJoin(groups, context, own));
    if (host === undefined) tenants.push({ ...own, id });
    else join(host, own);
  }
  return {
    ...rules,
    shared: [...shared.sets].toSorted(),
    policies: tenants.map(({ id, sets, vlans }): RulePolicy => ({ id, sets: [...sets].toSorted(), vlans })),
  };
}

function contextOf(groups: readonly Group[], named: readonly string[], vlans: readonly number[]): Context {
  const sets = new Set(named);
  const reads = new Set(groups.filter((group) => isIn(group, sets)).flatMap((group) => [...group.reads]));
  return { combinations: [{ sets, reads }], sets: new Set(sets), vlans: [...vlans] };
}

function join(host: Context, guest: Context): void {
  host.combinations.push(...guest.combinations);
  for (const name of guest.sets) host.sets.add(name);
  host.vlans.push(...guest.vlans);
}

/** Whether neither has a rule that does more than alert to ids of the other. */
function mayJoin(groups: readonly Group[], host: Context, guest: Context): boolean {
  const foreign = (from: Context, to: Context): Group[] =>
    groups.filter((group) => isIn(group, from.sets) && !isIn(group, to.sets));
  const hinders = (found: readonly Group[], { combinations }: Context): boolean =>
    found.length > 0 && combinations.some((combination) => found.some((group) => reaches(group, combination)));
  return !hinders(foreign(host, guest), guest) && !hinders(foreign(guest, host), host);
}

/** Whether rules do more than alert to ids of a combination that has none of them. */
function reaches({ acts, writes }: Effects, { reads }: Combination): boolean {
  return acts || [...writes].some((name) => reads.has(name));
}

function isIn({ sets }: Pick<Group, 'sets'>, names: ReadonlySet<string>): boolean {
  return sets.some((name) => names.has(name));
}

/** Of the rules that do more than alert, or read what others set. */
function groupsOf(index: RuleIndex): Group[] {
  const groups = new Map<string, Group>();
  for (const rule of index.values()) {
    const effects = effectsOf(rule);
    if (effects === undefined) continue;
    const key = rule.sets.join();
    const group = groups.get(key) ?? { sets: rule.sets, acts: false, writes: new Set(), reads: new Set() };
    groups.set(key, group);
    group.acts ||= effects.acts;
    for (const name of effects.writes) group.writes.add(name);
    for (const name of effects.reads) group.reads.add(name);
  }
  return [...groups.values()];
}

/** What one that has effects says somewhere, maybe in a pattern only. */
const MAY_HAVE =
  /flowbits|flowint|flowvar|pktvar|xbits|hostbits|threshold|detection_filter|dataset|bypass|lua|\(\?P<(?:flow|pkt)/;

/** By the text that the engine gets. Undefined where it only alerts. */
function effectsOf({ staged, file }: IndexedRule): Effects | undefined {
  if (staged.startsWith('alert ') && !MAY_HAVE.test(staged)) return undefined;
  const effects: Effects = { acts: false, writes: new Set(), reads: new Set() };
  for (const rule of parseRules(staged, { file }).rules) addEffects(effects, rule);
  return effects;
}

function addEffects(effects: Effects, rule: RuleInfo): void {
  effects.acts ||= rule.action !== 'alert';
  for (const option of ruleOptions(rule)) {
    effects.acts ||= isActing(option);
    const { writes, reads } = variablesOf(option);
    for (const name of writes) effects.writes.add(name);
    for (const name of reads) effects.reads.add(name);
  }
}

function isActing({ key, value }: RuleOption): boolean {
  switch (key) {
    case 'threshold':
    case 'detection_filter':
      // A flow is of one endpoint.
      return !/\btrack\s+by_flow\b/.test(value);
    case 'xbits':
    case 'hostbits':
    case 'dataset':
      return /^\s*(?:set|unset|toggle)\b/.test(value);
    case 'bypass':
    case 'lua':
    case 'luajit':
      return true;
    default:
      return false;
  }
}

/** What a rule finds by a pattern and keeps; not told apart by names. */
const CAPTURED = 'captured';

function variablesOf({ key, value }: RuleOption): { writes: string[]; reads: string[] } {
  const [first = '', second = ''] = value.split(',').map((word) => word.trim());
  switch (key) {
    case 'flowbits': {
      const names = second.split(/[|&]/).map((name) => `flowbits:${name.trim()}`);
      return first.startsWith('is') ? { writes: [], reads: names } : { writes: names, reads: [] };
    }
    case 'flowint':
      return { writes: [`flowint:${first}`], reads: [`flowint:${first}`] };
    case 'flowvar':
    case 'pktvar':
      return { writes: [], reads: [CAPTURED] };
    case 'pcre':
      return { writes: /\(\?P<(?:flow|pkt)/.test(value) ? [CAPTURED] : [], reads: [] };
    default:
      return { writes: [], reads: [] };
  }
}
