import { describe, expect, test } from '@jest/globals';
import { createCombinations } from '../../agent/endpoints/combinations.ts';

const create = () => createCombinations(() => ['kubernetes', 'custom']);

describe('combinations of rule sets', () => {
  test('every id has the defaults, in whatever order they are named', () => {
    const combinations = create();
    expect(combinations.accepts(['custom', 'kubernetes'])(7)).toBe(true);
    expect(combinations.accepts(['community'])(7)).toBe(false);
    expect(combinations.list()).toEqual([]);
  });

  test('a combination gets more ids than it needs at once, and the next ones when they are used up', () => {
    const combinations = create();
    combinations.claim([5, 6, 7, 8, 9, 10, 11, 12, 13, 14], ['b', 'a']);
    expect(combinations.list()).toEqual([{ id: 2, sets: ['a', 'b'], vlans: [5, 6, 7, 8, 9, 10, 11, 12] }]);
    const accepted = combinations.accepts(['a', 'b']);
    expect([12, 13].map(accepted)).toEqual([true, false]);
    combinations.claim([13, 14], ['a', 'b']);
    expect(combinations.list()[0]?.vlans).toHaveLength(10);
    expect(combinations.accepts(['kubernetes', 'custom'])(13)).toBe(false);
  });

  test('an id that is held can get other sets, and the defaults again', () => {
    const combinations = create();
    expect(combinations.move(3, ['a'])).toBe(true);
    expect(combinations.move(3, ['a'])).toBe(false);
    expect(combinations.list()).toEqual([{ id: 2, sets: ['a'], vlans: [3] }]);
    expect(combinations.move(3, ['custom', 'kubernetes'])).toBe(true);
    expect(combinations.list()).toEqual([]);
  });

  test('a combination that no endpoint has any more gives its ids back; the others keep their ids', () => {
    const combinations = create();
    combinations.claim([1, 2], ['a']);
    combinations.claim([3, 4], ['b']);
    expect(combinations.list().map(({ id, sets }) => [id, sets])).toEqual([
      [2, ['a']],
      [3, ['b']],
    ]);
    expect(combinations.trim([3, 9])).toBe(true);
    expect(combinations.trim([3, 9])).toBe(false);
    expect(combinations.list()).toEqual([{ id: 3, sets: ['b'], vlans: [3, 4] }]);
    combinations.claim([1], ['c']);
    expect(combinations.list().map(({ id }) => id)).toEqual([3, 2]);
  });

  test('no sets at all are a combination too', () => {
    const combinations = create();
    combinations.claim([1], []);
    expect(combinations.list()).toEqual([{ id: 2, sets: [], vlans: [1] }]);
  });
});
