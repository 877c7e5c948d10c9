import { expect, test } from '@jest/globals';
import { maskUrls } from '../../agent/rulesets/mask.ts';

test.each([
  ['https://h/x.rules?oinkcode=SECRET', 'https://h/x.rules?oinkcode=***'],
  ['https://h/x.tar.gz?a=SECRET&b=SECRET;c=SECRET#SECRET', 'https://h/x.tar.gz?a=***&b=***;c=***#***'],
  ['https://h/x.rules?SECRET', 'https://h/x.rules?***'],
  ['https://user:SECRET@h:8443/x.rules', 'https://***@h:8443/x.rules'],
  [
    'https://rules.example/1234567890123456/suricata-7.0.3/etpro.rules.tar.gz',
    'https://rules.example/***/suricata-7.0.3/etpro.rules.tar.gz',
  ],
  ['https://h/0f3a9c0b7d1e4f5a6b7c8d9e/x.rules', 'https://h/***/x.rules'],
  ['http://[bad/x?token=SECRET', 'http://[bad/x?token=***'],
  [
    'https://h/snortrules-snapshot-31470.tar.gz/0123456789abcdef0123456789abcdef01234567',
    'https://h/snortrules-snapshot-31470.tar.gz/***',
  ],
  ['from "http://h/x?t=SECRET" to ftp://h/y?t=SECRET now', 'from "http://h/x?t=***" to ftp://h/y?t=*** now'],
  [
    'https://www.snort.org/downloads/community/snort3-community-rules.tar.gz',
    'https://www.snort.org/downloads/community/snort3-community-rules.tar.gz',
  ],
  ['/a/file?with=what', '/a/file?with=what'],
])('%s', (text, masked) => expect(maskUrls(text)).toBe(masked));
