import { describe, expect, test } from '@jest/globals';
import type { EngineRules, RulePolicy } from '../../agent/engine/rules.ts';
import { parseRules } from '../../agent/rulesets/rule.ts';
import type { IndexedRule } from '../../agent/rulesets/sets.ts';
import { shareRules } from '../../agent/rulesets/share.ts';

/** Of each set, what its rules have beside a pattern. */
function share(
  options: Record<string, string | string[]>,
  policies: RulePolicy[],
  more: Partial<EngineRules> = {},
): Pick<EngineRules, 'shared' | 'policies'> {
  const index = new Map<string, IndexedRule>();
  let sid = 0;
  for (const [set, texts] of Object.entries(options)) {
    for (const text of [texts].flat()) {
      const staged = /^(?:alert|pass|config) /.test(text)
        ? text
        : `alert tcp any any -> any any ( content:"x"; ${text} sid:${++sid}; )`;
      for (const rule of parseRules(staged, { file: `${set}.rules` }).rules)
        index.set(`1:${rule.sid}`, { ...rule, sets: set.split('+'), staged });
    }
  }
  const { shared, policies: tenants } = shareRules({ files: [], defaults: ['main'], policies, ...more }, index);
  return { policies: tenants, ...(shared === undefined ? {} : { shared }) };
}

const own = (id: number, ...sets: string[]): RulePolicy => ({ id, sets, vlans: [10 * id, 10 * id + 1] });
/** Of the main set an id has all, and of its own `own`. */
const both = own(2, 'main', 'own');

test('ids of different sets have the rules of all of them in common', () => {
  expect(share({ main: '', own: '', third: '' }, [both, own(3, 'third'), own(4)])).toEqual({
    shared: ['main', 'own', 'third'],
    policies: [],
  });
});

test('without further combinations there is nothing to share', () => {
  expect(share({ main: '' }, [])).toEqual({ policies: [] });
});

const tenant = { shared: ['main'], policies: [{ ...both, sets: ['main', 'own'] }] };
const together = { shared: ['main', 'own'], policies: [] };

describe('an id has a tenant', () => {
  test.each([
    ['counts for a limit', 'threshold:type limit, track by_src, count 1, seconds 60;'],
    ['counts before it fires', 'detection_filter:track by_dst, count 5, seconds 60;'],
    ['sets what is of more than a flow', 'xbits:set,seen,track ip_src;'],
    ['sets what is of an address', 'hostbits:set,seen;'],
    ['keeps values', 'dataset:set,seen,type string;'],
    ['ends the inspection of a flow', 'bypass;'],
    ['runs a script', 'lua:own.lua;'],
    ['lets packets pass', 'pass tcp any any -> any any ( content:"x"; sid:77; )'],
    ['configures', 'config tls any any -> any any ( config:logging disable, type tx; sid:77; )'],
  ])('where a rule that only it has %s', (_, text) => {
    expect(share({ main: '', own: text }, [both])).toEqual(tenant);
  });

  test('where it lacks such a rule that others have', () => {
    const tenants = share({ main: ['', 'threshold:type limit, track by_src, count 1, seconds 60;'], own: '' }, [
      own(2, 'own'),
    ]);
    expect(tenants).toEqual({ shared: ['main'], policies: [own(2, 'own')] });
  });

  test.each([
    ['flowbits:isset,a;', 'flowbits:set,a; flowbits:noalert;'],
    ['flowbits:isnotset,b|a;', 'flowbits:unset,c&a;'],
    ['flowbits:isset,a;', 'flowbits:toggle,a;'],
    ['flowint:n,>,3;', 'flowint:n,+,1;'],
    ['flowvar:n,"x";', 'pcre:"/(?P<flow_n>x)/";'],
  ])('where others test what a rule that only it has sets: %s %s', (tested, set) => {
    expect(share({ main: tested, own: set }, [both])).toEqual(tenant);
    expect(share({ main: '', own: [tested, set] }, [both])).toEqual(together);
  });
});

test.each([
  ['a bit of another name', 'flowbits:isset,a;', 'flowbits:set,b;'],
  ['a bit that only it tests', 'flowbits:set,a;', 'flowbits:isset,a;'],
  ['a limit of each flow', '', 'threshold:type limit, track by_flow, count 1, seconds 60;'],
  ['values that are only looked up', '', 'dataset:isset,seen,type string,load seen.lst; xbits:isset,b,track ip_src;'],
  ['words of a pattern', '', 'content:"threshold: bypass|3b|";'],
])('%s hinders nobody', (_, main, rule) => {
  expect(share({ main, own: rule }, [both])).toEqual(together);
});

test('a rule that all have may do anything', () => {
  const limited = 'threshold:type limit, track by_src, count 1, seconds 60;';
  expect(share({ 'main+own': limited, own: '' }, [own(2, 'own')])).toEqual(together);
});

test('the engine’s text counts, and not that from which it was translated', () => {
  expect(
    share({ own: 'alert tcp any any -> any any ( sid:1; )\nalert tcp any any -> any any ( bypass; sid:1; gid:9; )' }, [
      both,
    ]),
  ).toEqual(tenant);
});

test('tenants share too, under the id of the first', () => {
  const limited = 'threshold:type limit, track by_src, count 1, seconds 60;';
  expect(share({ main: limited, a: '', b: '' }, [own(2, 'a'), own(3, 'b', 'a'), own(4, 'main', 'b')])).toEqual({
    shared: ['b', 'main'],
    policies: [{ id: 2, sets: ['a', 'b'], vlans: [20, 21, 30, 31] }],
  });
});

test('one that fits none of those that share already has its own', () => {
  const sets = (name: string): string[] => [`flowbits:set,${name};`, `flowbits:isset,${name};`];
  expect(
    share({ main: 'flowbits:isset,a;', a: sets('a'), b: 'flowbits:isset,a;' }, [own(2, 'b'), own(3, 'a')]),
  ).toEqual({ shared: ['b', 'main'], policies: [own(3, 'a')] });
});

test('limits of a file that the overrides name are not known: nothing is shared', () => {
  expect(
    share({ main: '', own: '' }, [both], { overrides: 'threshold-file: /etc/suricata/threshold.config\n' }),
  ).toEqual({
    policies: [both],
  });
});
