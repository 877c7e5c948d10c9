import { expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { clock, RIGHTS } from '../../agent/cli/doctor/cluster.ts';
import { PROJECT } from '../support/project.ts';

interface Role {
  kind: string;
  rules: { resources: string[]; verbs: string[] }[];
}

test('doctor asks for the rights that deploy/rbac.yaml gives, and for no other', () => {
  const documents = parseAllDocuments(readFileSync(join(PROJECT, 'deploy/rbac.yaml'), 'utf8'));
  const role = (Array.isArray(documents) ? documents : [])
    .map((document) => document.toJS() as Role)
    .find(({ kind }) => kind === 'ClusterRole');
  expect(RIGHTS.map(({ resource, verbs }) => ({ resource, verbs }))).toEqual(
    role?.rules.flatMap(({ resources, verbs }) => resources.map((resource) => ({ resource, verbs }))),
  );
});

test.each([
  [0, 'ok', 'within 1 s of'],
  [-4_999, 'ok', 'within 6 s of'],
  [5_000, 'warning', '5 s behind'],
  [-59_999, 'warning', '60 s ahead of'],
  [60_000, 'error', '60 s behind'],
])('a server whose clock is ahead by %d ms is %s', (ahead, level, text) => {
  expect(clock(ahead, 'https://api')).toMatchObject({
    level,
    subject: 'clock',
    message: expect.stringContaining(text),
  });
});
