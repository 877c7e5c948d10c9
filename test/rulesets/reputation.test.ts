import { expect, test } from '@jest/globals';
import { mergeReputations, parseCategories } from '../../agent/rulesets/reputation.ts';

const reputation = (categories: string, list: string) => ({
  categories: parseCategories(categories),
  list,
  files: [],
});

test('sets have one list together: categories of one name are one, whatever number they have', () => {
  const merged = mergeReputations([
    reputation('1,Bad,bad hosts\n2,Scan,x\n', '192.0.2.1,1,127\n192.0.2.0/24,2,5\n'),
    reputation('# c\n2, Bad ,other\n9,Bot,\n', '2001:db8::1,9,1\r\n198.51.100.1,2,3'),
  ]);
  expect(merged).toEqual({
    categories: '1,Bad,bad hosts\n2,Scan,x\n3,Bot,\n',
    list: '192.0.2.1,1,127\n192.0.2.0/24,2,5\n2001:db8::1,3,1\n198.51.100.1,1,3\n',
  });
});

test('what is no entry, or of no category, is passed over', () => {
  const given = reputation('1,Bad,x\nno line\n', '# c\n192.0.2.1,7,1\nhost,1,1\n192.0.2.2,1,2 \n');
  expect(mergeReputations([given, given])?.list).toBe('192.0.2.2,1,2\n');
  expect(mergeReputations([])).toBeUndefined();
});

test('more categories than Suricata takes are an error', () => {
  const lines = Array.from({ length: 61 }, (_, index) => `${index + 1},C${index},x\n`);
  expect(() => mergeReputations([reputation(lines.join(''), '')])).toThrow(
    '61 categories together: expected at most 60',
  );
});
