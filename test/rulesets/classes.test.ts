import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import {
  BUILT_IN_VOCABULARY,
  linkOf,
  loadVocabulary,
  parseClasses,
  parseReferenceTypes,
  readClasses,
} from '../../agent/rulesets/classes.ts';

describe('classification.config', () => {
  test('names classes, with text and priority; comments and damage are passed over', () => {
    const text =
      '# config classification: no,Comment,1\nconfig classification: one,First one,1\r\n' +
      '  config classification:Two, Second , 3\nconfig classification: bad,no priority\nconfig classification: ,empty,1\nconfig classification: one,Again,2';
    expect([...parseClasses(text)]).toEqual([
      ['one', { text: 'Again', priority: 2 }],
      ['two', { text: 'Second', priority: 3 }],
    ]);
  });

  test('is read as engines read it: blanks before the colon, commas in the text', () => {
    expect([...parseClasses('config  classification :  own-one ,  A  text, with commas ,1 \n')]).toEqual([
      ['own-one', { text: 'A  text, with commas', priority: 1 }],
    ]);
    expect([...parseReferenceTypes('config reference : own http://own.test/\n')]).toEqual([
      ['own', 'http://own.test/'],
    ]);
  });

  test.each([
    ['UTF-8 with a byte order mark', (text: string) => Buffer.from(`\ufeff${text}`)],
    ['UTF-16', (text: string) => Buffer.from(`\ufeff${text}`, 'utf16le')],
    ['Latin-1', (text: string) => Buffer.from(text, 'latin1')],
  ])('may be %s', (_, encode) => {
    const folder = mkdtempSync(join(tmpdir(), 'dpi-classes-'));
    try {
      writeFileSync(join(folder, 'classification.config'), encode('config classification: own,\u00c9t\u00e9,1\n'));
      expect([...readClasses(join(folder, 'classification.config'))]).toEqual([['own', { text: 'Été', priority: 1 }]]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('reference.config', () => {
  test('names the beginnings of links', () => {
    const text =
      '#config reference: no http://x/\nconfig reference: CVE   http://cve.test/?name=\nconfig reference: bad javascript:x\n';
    expect([...parseReferenceTypes(text)]).toEqual([['cve', 'http://cve.test/?name=']]);
  });
});

test('whatever the text, both end and give only what they promise', () => {
  const lines = fc.array(
    fc.oneof(
      fc.string(),
      fc.constantFrom('config ', 'classification:', 'reference:', ' a', ',', '1', '\n', '\r\n', 'http://x', '\t'),
    ),
  );
  fc.assert(
    fc.property(lines, (parts) => {
      const text = parts.join('');
      for (const [name, { priority }] of parseClasses(text)) {
        expect(name).not.toBe('');
        expect(priority).toBeLessThan(1000);
      }
      for (const url of parseReferenceTypes(text).values()) expect(url).toMatch(/^https?:\/\/\S*$/);
    }),
  );
});

describe('a link', () => {
  test.each([
    ['cve', '2021-44228', 'https://nvd.nist.gov/vuln/detail/CVE-2021-44228'],
    ['CVE', 'CVE-2021-44228', 'https://nvd.nist.gov/vuln/detail/CVE-2021-44228'],
    ['url', 'example.org/a,b', 'http://example.org/a,b'],
    ['url', 'https://example.org/', 'https://example.org/'],
    ['nessus', '10000', 'https://www.tenable.com/plugins/nessus/10000'],
    ['bugtraq', '1', 'https://www.securityfocus.com/bid/1'],
    ['arachnids', '1', undefined],
    ['url', 'a b', undefined],
    ['url', 'a\u001B[2J', undefined],
    ['url', '', undefined],
  ])('of %s,%j is %s', (type, id, link) => {
    expect(linkOf({ type, id }, BUILT_IN_VOCABULARY)).toBe(link);
  });
});

test('classes of the engine count before those built in, its links only where there are none, the operator’s before all', () => {
  const directory = mkdtempSync(join(tmpdir(), 'classes-'));
  const write = (folder: string, name: string, text: string): void => writeFileSync(join(folder, name), text);
  const own = mkdtempSync(join(directory, 'own-'));
  try {
    write(directory, 'classification.config', 'config classification: unknown,Engine,7\n');
    write(directory, 'reference.config', 'config reference: cve http://gone/\nconfig reference: more http://more/\n');
    expect(loadVocabulary(directory, ['/no/such/folder']).classes.get('unknown')).toEqual({
      text: 'Engine',
      priority: 7,
    });
    expect(linkOf({ type: 'cve', id: '1' }, loadVocabulary(directory, [own]))).toContain('nvd.nist.gov');
    expect(linkOf({ type: 'more', id: '1' }, loadVocabulary(directory, [own]))).toBe('http://more/1');
    write(own, 'classification.config', 'config classification: unknown,Own,4\n');
    write(own, 'reference.config', 'config reference: cve http://own/\n');
    expect(loadVocabulary(directory, [own]).classes.get('unknown')).toEqual({ text: 'Own', priority: 4 });
    expect(linkOf({ type: 'cve', id: '1' }, loadVocabulary(directory, [own]))).toBe('http://own/1');
  } finally {
    rmSync(directory, { recursive: true });
  }
});
