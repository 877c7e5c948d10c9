/** What the agent may do in pods' network namespaces. */
import { hasCapability } from './engine/sandbox.ts';

/** Of linux/capability.h. */
const CAP_SYS_ADMIN = 21;

/** Why this process can't enter a network namespace; undefined: it can. Which ones it may look into shows later. */
export function whyNotInPods(): string | undefined {
  return hasCapability(CAP_SYS_ADMIN) ? undefined : "no right to enter a pod's network namespace (CAP_SYS_ADMIN)";
}
