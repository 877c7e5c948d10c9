import { describe, expect, test } from '@jest/globals';
import {
  asExpression,
  asksForPods,
  DEFAULT_VARIABLES,
  expand,
  kindOf,
  leftOf,
  problemsOf,
  withNetworks,
  withValues,
  type VariableKind,
} from '../agent/rule-variables.ts';

const left = (expression: string, kind: VariableKind = 'addresses', values = {}): string => {
  const found = leftOf(expression, kind, withValues(DEFAULT_VARIABLES, values));
  return found.is === 'undefined' ? `undefined ${found.name}` : found.is;
};

test.each([
  ['10.0.0.0/8', '10.0.0.0/8'],
  [' 10.0.0.0/8 , 192.168.0.0/16', '[10.0.0.0/8,192.168.0.0/16]'],
  ['10.0.0.0/8 192.168.0.0/16', '[10.0.0.0/8,192.168.0.0/16]'],
  ['[ 10.0.0.0/8, ! 10.1.0.0/16 ]', '[10.0.0.0/8,!10.1.0.0/16]'],
  ['![80, 443]', '![80,443]'],
  [['10.0.0.0/8', '!$OTHER'], '[10.0.0.0/8,!$OTHER]'],
  [80, '80'],
  [[80, '8000:8100'], '[80,8000:8100]'],
  [true, undefined],
])('%j is the expression %j', (value, expression) => {
  expect(asExpression(value)).toBe(expression);
});

describe('what an expression leaves', () => {
  test.each([
    ['any', 'something'],
    ['!any', 'nothing'],
    ['!$HOME_NET', 'nothing'],
    ['[$HOME_NET,!10.0.0.0/8]', 'something'],
    ['[10.1.0.0/16,!10.0.0.0/8]', 'nothing'],
    ['[10.0.0.0/8,!10.1.0.0/16]', 'something'],
    ['[!10.0.0.0/8,!10.1.0.0/16]', 'something'],
    ['[!0.0.0.0/0,!::/0]', 'nothing'],
    ['!0.0.0.0/0', 'something'],
    ['[10.0.0.0/30,!10.0.0.0/31,!10.0.0.2/31]', 'nothing'],
    ['[10.0.0.0/24,![10.0.0.0/16,!10.0.0.7]]', 'something'],
    ['[2001:db8::/32,!2001:db8::/33,!2001:db8:8000::/33]', 'nothing'],
    ['[::ffff:10.0.0.1,!::ffff:a00:1]', 'nothing'],
    ['[10.0.0.1-10.0.0.4,!10.0.0.0/29]', 'nothing'],
    ['$NOBODY', 'undefined NOBODY'],
    ['[10.0.0.0/8,$NOBODY]', 'undefined NOBODY'],
    ['10.0.0.300', 'unreadable'],
    ['10.0.0.0/33', 'unreadable'],
    ['[10.0.0.0/8', 'unreadable'],
    ['[10.0.0.0/8,]', 'unreadable'],
    ['[[10.0.0.1],10.0.0.2]', 'something'],
  ])('%s: %s', (expression, is) => {
    expect(left(expression)).toBe(is);
  });

  test.each([
    ['!$HTTP_PORTS', 'nothing'],
    ['[80,!1:1000]', 'nothing'],
    ['[:80,!:79]', 'something'],
    ['[1024:,!1024:65535]', 'nothing'],
    ['80:70', 'unreadable'],
    ['70000', 'unreadable'],
    ['$FILE_DATA_PORTS', 'something'],
  ])('of ports, %s: %s', (expression, is) => {
    expect(left(expression, 'ports')).toBe(is);
  });

  test('is told by what is set', () => {
    const values = { HOME_NET: '10.1.0.0/16', EXTERNAL_NET: '!$HOME_NET' };
    expect(left('!$HOME_NET', 'addresses', values)).toBe('something');
    expect(left('[$HOME_NET,$EXTERNAL_NET]', 'addresses', values)).toBe('something');
    expect(left('[$HOME_NET,!10.0.0.0/8]', 'addresses', values)).toBe('nothing');
    expect(left('[$DNS_SERVERS,$EXTERNAL_NET,![$HOME_NET,$EXTERNAL_NET]]', 'addresses', values)).toBe('nothing');
    expect(left('$A', 'addresses', { A: '$B', B: '$A' })).toBe('unreadable');
  });
});

test('a name is of ports by its end, else by its value', () => {
  const values = { MY_WEB: '[80,!443]', MY_NET: '10.0.0.0/8', ALIAS: '$MY_WEB', OPEN: 'any', SIX: '2001:db8::1' };
  const kinds = ['X_PORTS', 'X_PORT', ...Object.keys(values)].map((name) => kindOf(name, values));
  expect(kinds).toEqual(['ports', 'ports', 'ports', 'addresses', 'ports', 'addresses', 'addresses']);
});

test('values without variables', () => {
  const values = { A: '[$B,10.0.0.1]', B: '!$C', C: '[10.0.0.2,$D]' };
  expect(expand('$A', values)).toBe('[![10.0.0.2,$D],10.0.0.1]');
  expect(expand('$L', { L: '$L' })).toBe('$L');
});

test('pods stands for the networks of the cluster, and for any while they are not known', () => {
  const values = { HOME_NET: 'pods', EXTERNAL_NET: '!$HOME_NET', MY_NET: '10.0.0.1' };
  expect(problemsOf(values)).toEqual(new Map());
  expect([...problemsOf({ MY_PORTS: 'pods' }).keys()]).toEqual(['MY_PORTS']);
  expect(asksForPods(values)).toBe(true);
  expect(asksForPods({ MY_NET: 'any' })).toBe(false);
  expect(withNetworks(values, ['10.0.0.0/16', '2001:db8::/64'])).toEqual({
    ...values,
    HOME_NET: '[10.0.0.0/16,2001:db8::/64]',
  });
  expect(withNetworks(values, ['10.0.0.0/16'])['HOME_NET']).toBe('10.0.0.0/16');
  expect(withNetworks(values, [])['HOME_NET']).toBe('any');
});

test.each([
  [{ HOME_NET: '[10.0.0.0/8,2001:db8::/32]', EXTERNAL_NET: '!$HOME_NET', MY_PORTS: '[80,$HTTP_PORTS]' }, []],
  [{ HOME_NET: '10.0.0.300' }, [['HOME_NET', 'expected any, pods, or addresses and networks such as 10.0.0.0/8']]],
  [{ HTTP_PORTS: '10.0.0.0/8' }, [['HTTP_PORTS', 'expected any, or ports such as 80']]],
  [{ EXTERNAL_NET: '!$HOME_NET' }, [['EXTERNAL_NET', 'leaves no addresses, as HOME_NET is any']]],
  [{ A: '$B' }, [['A', '$B is not defined among addresses: set it too']]],
  [{ A: '$A' }, [['A', 'expected any']]],
])('what is wrong with %j', (values, problems) => {
  const found = [...problemsOf(values)];
  expect(found).toHaveLength(problems.length);
  problems.forEach(([name = '', text = ''], index) => {
    expect(found[index]?.[0]).toBe(name);
    expect(found[index]?.[1]).toContain(text);
  });
});
