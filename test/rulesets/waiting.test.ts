import { expect, test } from '@jest/globals';
import { parseRules, type RuleInfo } from '../../agent/rulesets/rule.ts';
import { findWaiting } from '../../agent/rulesets/waiting.ts';

const rules = (...options: string[]): RuleInfo[] =>
  options.flatMap((option, index) => {
    const text = `alert tcp any any -> any any (content:"x"; ${option} sid:${index + 1};)`;
    return parseRules(text, { file: 'x.rules' }).rules;
  });
/** `sid bit` for each. */
const waiting = (loaded: string[], refused: string[]): string[] =>
  findWaiting(rules(...loaded), rules(...refused)).map(({ rule, bit, setBy }) => `${rule.sid} ${bit} ${setBy.length}`);

test('a bit that only refused rules set, and no other', () => {
  const wait = ['flowbits:isset,a;', 'flowbits:isset,b;', 'flowbits:isset,c;', 'flowbits:isnotset,a;', ''];
  expect(
    waiting([...wait, 'flowbits:set,b;'], ['flowbits:set,a;', 'flowbits:set,b;', 'flowbits: set , a, group;']),
  ).toEqual(['1 flowbits:a 2']);
});

test('one of several is enough, and of all of them each is needed', () => {
  const set = ['flowbits:set,b;'];
  expect(waiting(['flowbits:isset,a|b;', ...set], ['flowbits:set,a;'])).toEqual([]);
  expect(waiting(['flowbits:isset,a&b;', ...set], ['flowbits:set,a;'])).toEqual(['1 flowbits:a 1']);
  expect(waiting(['flowbits:isset,b; flowbits:isset,a;', ...set], ['flowbits:set,a;'])).toEqual(['1 flowbits:a 1']);
});

test('what waits in vain sets nothing for others either', () => {
  expect(waiting(['flowbits:isset,a; flowbits:set,b;', 'flowbits:isset,b;'], ['flowbits:set,a;'])).toEqual([
    '1 flowbits:a 1',
    '2 flowbits:b 1',
  ]);
});

test('flowbits, xbits and hostbits are names of their own', () => {
  const given = ['xbits:isset,a,track ip_src;', 'hostbits:isset,a;', 'flowbits:isset,a;'];
  expect(waiting(given, ['xbits:set,a,track ip_src,expire 5;'])).toEqual(['1 xbits:a 1']);
  expect(waiting(['flowbits:set,a; xbits:isset,b,track ip_src;'], ['flowbits:toggle,b;'])).toEqual([]);
});
