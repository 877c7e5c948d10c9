import { describe, expect, test } from '@jest/globals';
import type { EngineRules } from '../../agent/engine/rules.ts';
import { swapRules, type SwapLane } from '../../agent/rulesets/swap.ts';

const rules = (name: string): EngineRules => ({ files: [], defaults: [name], policies: [] });
const [OLD, NEW] = [rules('old'), rules('new')];

/** Lanes that fail to go over to the rules of these names; and what was done with them. */
function lanes(failures: Record<string, string[]>): { lanes: SwapLane[]; done: string[] } {
  const done: string[] = [];
  const made = Object.entries(failures).map(([name, fails]): SwapLane => ({
    name,
    reload({ defaults: [to = ''] }) {
      done.push(`${name} ${to}`);
      return Promise.resolve(fails.includes(to) ? `no ${to}` : undefined);
    },
    restart() {
      done.push(`${name} restart`);
      return Promise.resolve();
    },
  }));
  return { lanes: made, done };
}

describe('swapRules', () => {
  test('is over when each lane is proven', async () => {
    const { lanes: all, done } = lanes({ a: [], b: [] });
    expect(await swapRules(all, OLD, NEW)).toEqual({ is: 'swapped' });
    expect(done).toEqual(['a new', 'b new']);
  });

  test('goes back with all that were changed when one is not, the last one first', async () => {
    const { lanes: all, done } = lanes({ a: [], b: ['new'], c: [] });
    expect(await swapRules(all, OLD, NEW)).toEqual({ is: 'rolled_back', reason: 'b: no new' });
    expect(done).toEqual(['a new', 'b new', 'b old', 'a old']);
  });

  test('starts an engine anew that can’t be proven back', async () => {
    const { lanes: all, done } = lanes({ a: ['old'], b: ['new'] });
    expect(await swapRules(all, OLD, NEW)).toEqual({ is: 'restarted', reason: 'b: no new' });
    expect(done).toEqual(['a new', 'b new', 'b old', 'a old', 'a restart']);
  });
});
