import { describe, expect, test } from '@jest/globals';
import { PassThrough } from 'node:stream';
import picocolors from 'picocolors';
import type { AttributedAlert } from '../../agent/alerts/attributed.ts';
import { coloursOf, columnsOf, grouped, plural, tableHeader, tableRow, wrapWords } from '../../agent/cli/print.ts';
import type { Alert } from '../../agent/engine/alert.ts';
import { toEvent } from '../../agent/events/event.ts';
import { attributedAlert, endpointOf } from '../support/attributed.ts';

const plain = picocolors.createColors(false);
const coloured = picocolors.createColors(true);

const backend = endpointOf('backend', { id: 'shop/backend', namespace: 'shop', interface: 'cali1', resources: [] });

function row(alert: Partial<Alert> = {}, more: Partial<AttributedAlert> = {}, colours = plain): string {
  const attributed = attributedAlert(
    {
      timeMicros: Date.UTC(2026, 10, 22, 0, 41, 7) * 1000 + 123_456,
      sid: 1_000_000,
      rev: 2,
      message: 'KUBERNETES something',
      source: { ip: '10.0.0.2', port: 40_000 },
      destination: { ip: '10.0.0.3', port: 80 },
      ...alert,
    },
    { seenAt: [backend], ...more },
  );
  return tableRow(toEvent(attributed, { payload: false, maxBytes: 0, rule: false }), colours);
}

describe('a row', () => {
  test('has time, severity, rule, flow and message under the header’s words', () => {
    const header = tableHeader(plain);
    const text = row({}, { destination: backend });
    const columns = {
      'TIME (UTC)': '2026-11-22 00:41:07.123456',
      SEVERITY: 'critical ',
      RULE: '1:1000000:2 ',
      FLOW: '10.0.0.2:40000 → shop/backend:80 ',
      MESSAGE: 'KUBERNETES something',
    };
    for (const [title, value] of Object.entries(columns)) {
      expect(text.slice(header.indexOf(title)).startsWith(value)).toBe(true);
    }
    expect(text.endsWith('KUBERNETES something')).toBe(true);
  });

  test('has brackets around an IPv6 address that is followed by a port, and only there', () => {
    expect(row({ source: { ip: 'fd00::1', port: 5 }, destination: { ip: 'fd00::2' } })).toContain(
      ' [fd00::1]:5 → fd00::2 ',
    );
    expect(row({ source: { ip: '10.0.0.1' }, destination: { ip: '10.0.0.2' } })).toContain(' 10.0.0.1 → 10.0.0.2 ');
  });

  test('has no gap where the rule has no text', () => {
    expect(row({ message: '' })).toMatch(/ {2}\(no text\)$/);
  });

  test('is not cut when a column is too long', () => {
    const name = 'n'.repeat(100);
    expect(row({}, { source: { ...backend, name } })).toMatch(
      new RegExp(`shop/${name}:40000 → 10.0.0.3:80 {2}KUBERNETES`),
    );
  });

  test('stays one line without escape sequences, whatever the packet put into it', () => {
    const hostile = '\u001b[2J\u001b]0;title\u0007a\nb\rc\u2028d\u009b31me\u202ef';
    const text = row(
      { message: hostile, protocol: hostile, source: { ip: hostile, port: 1 } },
      { destination: { namespace: hostile, name: hostile, nameAggr: hostile } },
    );
    // oxlint-disable-next-line no-control-regex
    expect(text).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e]/);
    expect(text).toContain('a');
  });
});

describe('colours', () => {
  test('mark the severity and the message, and change no text', () => {
    // oxlint-disable-next-line no-control-regex
    const strip = (text: string): string => text.replaceAll(/\u001b\[\d+m/g, '');
    const severe = [1, 2, 3].map((priority) => row({ priority }, {}, coloured));
    expect(severe.map(strip)).toEqual([1, 2, 3].map((priority) => row({ priority })));
    // oxlint-disable-next-line no-control-regex
    expect(severe.map((text) => /\u001b\[(\d+)m/.exec(text)?.[1])).toEqual(['31', '33', '36']);
    expect(strip(tableHeader(coloured))).toBe(tableHeader(plain));
  });

  test('are for terminals only, and never with NO_COLOR', () => {
    const stream = (isTTY: boolean) => Object.assign(new PassThrough(), { isTTY }) as unknown as NodeJS.WriteStream;
    const before = process.env['NO_COLOR'];
    try {
      delete process.env['NO_COLOR'];
      expect(coloursOf(stream(true)).isColorSupported).toBe(true);
      expect(coloursOf(stream(false)).isColorSupported).toBe(false);
      process.env['NO_COLOR'] = '';
      expect(coloursOf(stream(true)).isColorSupported).toBe(false);
    } finally {
      if (before === undefined) delete process.env['NO_COLOR'];
      else process.env['NO_COLOR'] = before;
    }
  });
});

test('numbers are grouped by thousands', () => {
  expect([0, 999, 1000, 1_234_567].map(grouped)).toEqual(['0', '999', '1,000', '1,234,567']);
});

test('counts have their noun in the number that they are', () => {
  expect([0, 1, 1234].map((count) => plural(count, 'alert'))).toEqual(['0 alerts', '1 alert', '1,234 alerts']);
  expect([1, 2].map((count) => plural(count, 'rule is', 'rules are'))).toEqual(['1 rule is', '2 rules are']);
});

describe('a width', () => {
  test('is that of the terminal, 80 where it knows none, and unbounded without one', () => {
    expect(columnsOf({ isTTY: true, columns: 60 })).toBe(60);
    expect(columnsOf({ isTTY: true, columns: 0 })).toBe(80);
    expect(columnsOf({})).toBe(Infinity);
  });

  test('breaks lines at blanks, and words only where they are longer', () => {
    expect(wrapWords('one two  three', 8)).toEqual(['one two', 'three']);
    expect(wrapWords('one  two', 8)).toEqual(['one  two']);
    expect(wrapWords('a 123456789', 4)).toEqual(['a', '1234', '5678', '9']);
    expect(wrapWords('any thing', Infinity)).toEqual(['any thing']);
    expect(wrapWords('', 4)).toEqual(['']);
  });
});
