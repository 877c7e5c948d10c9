/**
 * The canary's rule, in the syntax that both engines read, and the payload that it fires on.
 *
 * The payload carries the token of the rule that is to fire, and a number. The token is secret and random, and each
 * generation of an engine, and each change of its rules, has its own: so an alert with it proves that these rules are
 * the ones that inspect, and no pod can make one.
 */
import { randomBytes } from 'node:crypto';
import type { Alert } from './alert.ts';

/** Of no rule set; Snort takes generator ids up to 8129. */
const GID = 4094;
const SID = 4094;
/** Of frames that are the agent's own; never leased to an endpoint. */
export const CANARY_VLAN = 4094;
/** The rule's file in a generation's configuration. */
export const CANARY_FILE = 'canary.rules';

/** 16 hexadecimal digits. */
export function createToken(): string {
  return randomBytes(8).toString('hex');
}

/** The content of a rule file. Where rules are chosen by VLAN id, it belongs to what inspects `CANARY_VLAN`. */
export function canaryRule(token: string): string {
  return `alert udp any any -> any any ( msg:"dpi-agent canary"; content:"${label(token)}"; gid:${GID}; sid:${SID}; rev:1; )\n`;
}

export function canaryPayload(token: string, number: number): string {
  return `${label(token)}${number};`;
}

/** Whether alerts of a rule would be taken for the canary's. */
export function hasCanarySignature({ gid, sid }: { gid: number; sid: number }): boolean {
  return gid === GID && sid === SID;
}

/** What of the agent's own came back. */
export type Returned = { token: string; number: number } | 'other';

/** `other`: of the agent's frames too, but by another rule, or unreadable; undefined: of an endpoint's packet. */
export function readCanary(alert: Alert): Returned | undefined {
  const { vlan, payload } = alert;
  const isRule = hasCanarySignature(alert);
  if (vlan !== CANARY_VLAN) return isRule ? 'other' : undefined;
  const [, token, number] = /dpi-agent canary ([0-9a-f]+) (\d{1,15});/.exec(payload?.toString('latin1') ?? '') ?? [];
  if (!isRule || token === undefined) return 'other';
  return { token, number: Number(number) };
}

function label(token: string): string {
  return `dpi-agent canary ${token} `;
}
