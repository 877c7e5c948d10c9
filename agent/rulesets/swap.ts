/**
 * Takes lanes from one state of the rules to another, one after the other. A swap is over only when each lane's canary
 * says that its engine inspects by the new ones; else all go back.
 *
 *   every lane proven                      → swapped
 *   one not, all back and proven           → rolled_back
 *   one that can't be proven back either   → restarted: its engine starts anew, with the former rules
 */
import type { EngineRules } from '../engine/rules.ts';

export interface SwapLane {
  name: string;
  /**
   * @returns why its engine does not inspect by them; undefined when it does. An engine that does not run has them at
   * its next start.
   */
  reload(rules: EngineRules): Promise<string | undefined>;
  /** Starts its engine anew, with the rules that it was last told. */
  restart(): Promise<void>;
}

export type SwapOutcome =
  { is: 'swapped' } | { is: 'rolled_back' | 'restarted'; /** Which lane failed, and why. */ reason: string };

export async function swapRules(lanes: readonly SwapLane[], from: EngineRules, to: EngineRules): Promise<SwapOutcome> {
  const changed: SwapLane[] = [];
  for (const lane of lanes) {
    changed.push(lane);
    const failure = await lane.reload(to);
    if (failure === undefined) continue;
    const reason = `${lane.name}: ${failure}`;
    const stuck: SwapLane[] = [];
    for (const each of changed.toReversed()) if ((await each.reload(from)) !== undefined) stuck.push(each);
    for (const each of stuck) await each.restart();
    return { is: stuck.length === 0 ? 'rolled_back' : 'restarted', reason };
  }
  return { is: 'swapped' };
}
