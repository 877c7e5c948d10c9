import { expect, test } from '@jest/globals';
import { DEFAULT_VARIABLES, withValues } from '../../agent/rule-variables.ts';
import { whyDead } from '../../agent/rulesets/dead.ts';

const SET = withValues(DEFAULT_VARIABLES, { HOME_NET: '10.1.0.0/16' });

test.each([
  ['alert tcp $HOME_NET any -> $EXTERNAL_NET $HTTP_PORTS', undefined, undefined],
  ['alert http', undefined, undefined],
  ['alert tcp !any any -> any any', undefined, undefined],
  [
    'alert tcp !$HOME_NET any -> any any',
    'it can match nothing: the source !$HOME_NET leaves no addresses, as HOME_NET is any: set variables.HOME_NET',
    undefined,
  ],
  [
    'alert tcp any any -> [$HOME_NET, !10.0.0.0/8] any',
    undefined,
    'the destination [$HOME_NET,!10.0.0.0/8] leaves no addresses, as HOME_NET is 10.1.0.0/16',
  ],
  [
    'alert tcp any any -> any !$HTTP_PORTS',
    'the destination port !$HTTP_PORTS leaves no ports, as HTTP_PORTS is any: set variables.HTTP_PORTS',
    'set variables.HTTP_PORTS',
  ],
  [
    'alert tcp any any -> any $MINE',
    '$MINE is not defined: set variables.MINE to ports (variables: { MINE: 8080 })',
    '$MINE is not defined',
  ],
  [
    'alert tcp [$MINE,10.0.0.1] any -> any any',
    'set variables.MINE to addresses (variables: { MINE: 10.0.0.0/8 })',
    '$MINE is not defined',
  ],
])('%s', (header, unset, set) => {
  for (const [variables, expected] of [
    [DEFAULT_VARIABLES, unset],
    [SET, set],
  ] as const) {
    const why = whyDead(header, variables);
    if (expected === undefined) expect(why).toBeUndefined();
    else expect(why).toContain(expected);
  }
});
