/**
 * MITRE ATT&CK and what to do, of a rule: as it states them in its metadata, else what follows from its class.
 *
 * Stated, in the keys that this project, Emerging Threats and others use: `mitre_technique`, `mitre_technique_id`,
 * `mitre_tactic`, `mitre_tactic_id`, `mitigation`. Derived only from classes whose name says what an attacker does; a
 * class such as `attempted-admin` or `misc-attack` says how bad it is, so nothing follows from it. A derived technique
 * or tactic is a hint about the kind of rule, not a finding about this one.
 */
import type { RuleInfo } from './rule.ts';

export interface AttackFacts {
  mitreIds: string[];
  mitreTactic?: string;
  /** Where technique and tactic are from; absent where there are none. */
  mitreSource?: 'rule' | 'class';
  mitigations: string[];
}

interface Known {
  technique?: string;
  tactic: string;
  mitigation?: string;
}

const COMMAND_AND_CONTROL: Known = {
  tactic: 'TA0011',
  mitigation:
    'Isolate the pod with a NetworkPolicy that denies egress, keep its evidence, and replace it from a clean image.',
};
const MINING: Known = {
  technique: 'T1496',
  tactic: 'TA0040',
  mitigation: 'Find how the miner got into the pod, replace it from a clean image, and set limits for its resources.',
};
const DENIAL_OF_SERVICE: Known = { tactic: 'TA0040' };

const BY_CLASS: Record<string, Known> = {
  'coin-mining': MINING,
  'command-and-control': COMMAND_AND_CONTROL,
  'domain-c2': COMMAND_AND_CONTROL,
  'malware-cnc': COMMAND_AND_CONTROL,
  'credential-theft': { tactic: 'TA0006', mitigation: 'Replace the credentials that may be known to others.' },
  'default-login-attempt': {
    technique: 'T1078.001',
    tactic: 'TA0001',
    mitigation: 'Change the passwords that the software came with.',
  },
  'attempted-dos': DENIAL_OF_SERVICE,
  'denial-of-service': DENIAL_OF_SERVICE,
  'successful-dos': DENIAL_OF_SERVICE,
  'exploit-kit': { technique: 'T1189', tactic: 'TA0001' },
  'network-scan': {
    technique: 'T1046',
    tactic: 'TA0007',
    mitigation: 'Restrict with NetworkPolicies which pods may connect to which ports.',
  },
  'rpc-portmap-decode': { technique: 'T1046', tactic: 'TA0007' },
  'social-engineering': { technique: 'T1566', tactic: 'TA0001' },
  'web-application-attack': { technique: 'T1190', tactic: 'TA0001' },
};

/** Categories at the beginning of messages that Cisco's rules have, where they say more than the class. */
const BY_CATEGORY: Record<string, Known> = {
  'MALWARE-CNC': COMMAND_AND_CONTROL,
  'PUA-CRYPTOMINER': MINING,
};

const TECHNIQUE = /^T\d{4}(?:\.\d{3})?$/i;

/** @param cves `CVE-2021-44228`, as the rule's references have them. */
export function attackFacts(rule: RuleInfo, cves: readonly string[]): AttackFacts {
  const { metadata, message, classtype } = rule;
  const values = (...keys: string[]): string[] => [...new Set(keys.flatMap((key) => metadata[key] ?? []))];
  const techniques = values('mitre_technique', 'mitre_technique_id').map((id) =>
    TECHNIQUE.test(id) ? id.toUpperCase() : id,
  );
  // Emerging Threats give the name too, which says nothing more.
  const [tactic] = values('mitre_tactic_id', 'mitre_tactic');
  const stated = techniques.length > 0 || tactic !== undefined;
  const category = /^[A-Z]+-[A-Z]+(?= )/.exec(message)?.[0] ?? '';
  const known = lookUp(BY_CATEGORY, category) ?? lookUp(BY_CLASS, classtype.toLowerCase());

  const mitigations = values('mitigation');
  if (mitigations.length === 0) {
    if (cves.length > 0) mitigations.push(`Update what is affected by ${cves.slice(0, 8).join(', ')}.`);
    if (known?.mitigation !== undefined) mitigations.push(known.mitigation);
  }
  if (stated) {
    return {
      mitreIds: techniques,
      ...(tactic === undefined ? {} : { mitreTactic: tactic }),
      mitreSource: 'rule',
      mitigations,
    };
  }
  if (known === undefined) return { mitreIds: [], mitigations };
  return {
    mitreIds: known.technique === undefined ? [] : [known.technique],
    mitreTactic: known.tactic,
    mitreSource: 'class',
    mitigations,
  };
}

function lookUp(table: Record<string, Known>, key: string): Known | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}
