/** What the agent may do in pods' network namespaces. */
import { readFileSync } from 'node:fs';

/** Of linux/capability.h. */
const CAP_SYS_ADMIN = 21n;

/** Why this process can't enter a network namespace; undefined: it can. Which ones it may look into shows when it does. */
export function whyNotInPods(status = readFileSync('/proc/self/status', 'latin1')): string | undefined {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0';
  return (BigInt(`0x${effective}`) & (1n << CAP_SYS_ADMIN)) === 0n
    ? "no right to enter a pod's network namespace (CAP_SYS_ADMIN)"
    : undefined;
}
