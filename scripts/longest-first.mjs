/**
 * The order of test files where nothing is known of how long they took: those that take long are not left for the end,
 * when one worker would have nothing to do. For the `testSequencer` of jest.config.mjs.
 */
import { createRequire } from 'node:module';

const { default: Sequencer } = createRequire(import.meta.url)('@jest/test-sequencer');

/** In half a minute or more, whatever their size. */
const LONG = ['overload.engine', 'books.engine', 'faults/', 'page.browser', 'agent.kubernetes', 'sim/', 'rule-files'];

export default class LongestFirst extends Sequencer {
  /** Of what is equally long, the larger file first, as jest does. */
  sort(tests) {
    return super.sort(tests).toSorted((a, b) => rank(a) - rank(b));
  }
}

/** Plain tests take a moment each, and are last. */
function rank({ path, duration, context }) {
  if (duration !== undefined) return -1;
  if (LONG.some((part) => path.includes(part))) return 0;
  return context.config.displayName?.name === 'unit' ? 2 : 1;
}
