import { describe, expect, test } from '@jest/globals';
import { EditError, withRuleSets } from '../../agent/config/edit.ts';

describe('a set more', () => {
  test.each([
    [
      'in a list on one line, comments and all',
      '# mine\nnode: "a" # the node\nruleSets: [kubernetes] # all\n\n# engines\nengine:\n  type: snort\n',
      '# mine\nnode: "a" # the node\nruleSets: [kubernetes, community] # all\n\n# engines\nengine:\n  type: snort\n',
    ],
    [
      'in a list of lines',
      "ruleSets:\n  - kubernetes # built in\n  - 'own'\nlanes: 2\n",
      "ruleSets:\n  - kubernetes # built in\n  - 'own'\n  - community\nlanes: 2\n",
    ],
    ['beside what counts by default', 'lanes: 2\n', 'lanes: 2\nruleSets: [ kubernetes, community ]\n'],
    ['in a file without anything', '', 'ruleSets: [ kubernetes, community ]\n'],
    ['that is there already', 'ruleSets: [community]\n', 'ruleSets: [community]\n'],
    ['in place of a key without value', 'ruleSets:\nlanes: 2\n', 'ruleSets: [ kubernetes, community ]\nlanes: 2\n'],
  ])('%s', (_, before, after) => {
    expect(withRuleSets(before, ['community'], ['kubernetes'])).toBe(after);
  });
});

test.each([
  ['what is no YAML', 'a: [', 'not valid YAML'],
  ['an alias', 'rules: &x [a]\nruleSets: *x\n', 'is an alias'],
])('%s is left to its owner', (_, text, message) => {
  expect(() => withRuleSets(text, ['community'], [])).toThrow(EditError);
  expect(() => withRuleSets(text, ['community'], [])).toThrow(message);
});
