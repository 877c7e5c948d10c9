import { expect, test } from '@jest/globals';
import { contentsOf } from '../../agent/rulesets/contents.ts';
import { alertBytes, type SentPayload } from '../../agent/ui/alert-bytes.ts';

const RULE = String.raw`alert tcp any any -> any any (msg:"content:not this"; content:"smk="; content:!"never"; `;

test.each([
  ['Snort', `${RULE} content:"|0D 0A|User-\\"Agent",nocase,fast_pattern; sid:1;)`],
  ['Suricata', `${RULE} content:"|0d 0a|User-\\"Agent"; nocase; fast_pattern; sid:1;)`],
])('the bytes that a rule of %s looks for', (_, text) => {
  expect(contentsOf(text)).toEqual([
    { bytes: Buffer.from('smk='), nocase: false },
    { bytes: Buffer.from('\r\nUser-"Agent'), nocase: true },
  ]);
});

test.each(['', 'no rule', 'alert tcp any any -> any any (content:"|0|"; sid:1;)'])('none are in %p', (text) => {
  expect(contentsOf(text)).toEqual([]);
});

const sent = (payload: string, more: Partial<SentPayload> = {}): SentPayload => ({
  fromSource: true,
  fired: false,
  payload: Buffer.from(payload),
  ...more,
});
const marked = (packets: SentPayload[], ...wanted: string[]): string[][] => {
  const contents = wanted.map((text) => ({ bytes: Buffer.from(text), nocase: text === text.toUpperCase() }));
  return alertBytes(packets, contents).map((spans, index) =>
    spans.map(([from, to]) => packets[index]?.payload.toString('utf8', from, to) ?? ''),
  );
};

test('they are marked in the packet that fired, else in what its side sent, else in what the other did', () => {
  const packets = [
    sent('GET /one evil'),
    sent('evil answer', { fromSource: false }),
    sent('GET /two evil', { fired: true }),
    sent('evil later'),
  ];
  expect(marked(packets, 'evil')).toEqual([[], [], ['evil'], []]);
  expect(marked(packets, 'one')).toEqual([['one'], [], [], []]);
  expect(marked(packets, 'answer', 'nowhere')).toEqual([[], ['answer'], [], []]);
  expect(marked(packets, 'EVIL', 'two evil')).toEqual([[], [], ['two evil'], []]);
});

test('they may lie across packets of a side', () => {
  const packets = [sent('ab-ev'), sent('x', { fromSource: false }), sent('i', { fired: true }), sent('l')];
  expect(marked(packets, 'evil')).toEqual([['ev'], [], ['i'], ['l']]);
});
