import { describe, expect, test } from '@jest/globals';
import type * as z from 'zod';
import { acknowledgeUrl, checkLink } from '../../../agent/events/acknowledgement.ts';
import type { EeEvent } from '../../../agent/events/event.ts';
import { toAlert, type Alert } from '../../../agent/ship/formats/alert.ts';
import { toCef } from '../../../agent/ship/formats/cef.ts';
import { formatOf } from '../../../agent/ship/formats/formats.ts';
import { toLeef } from '../../../agent/ship/formats/leef.ts';
import { eventOf } from '../http/support.ts';
import * as vendors from './vendors.ts';

const CONTEXT = { secret: 'R'.repeat(32), labels: { team: 'soc' } };
const KEY = 'k'.repeat(64);
const ABOUT = {
  cluster: 'lab',
  publicUrl: 'https://dpi.example.com/alerts',
  acknowledgeUrl: (alert: string) =>
    acknowledgeUrl('https://dpi.example.com/alerts', { alert, until: 1_800_000_000, via: 'soc-chat' }, KEY),
};

const alertOf = (event: unknown): Alert => toAlert(JSON.stringify(event), ABOUT);

const plain = eventOf();
const folded = eventOf(1, {}, { count: 1234, last_timestamp: '2026-01-02T04:00:00.000000Z' });
const bare = eventOf(2, {
  severity: 50,
  mitre_tactic: 'n/a',
  source_ip: '2001:db8::1',
  source_name: '-',
  source_name_aggr: '-',
  source_namespace: '-',
});
delete bare.source_port;
/** As long as an event's texts can be, of characters that have to be escaped everywhere. */
const huge = eventOf(
  3,
  {
    origin: `dpi.${'n'.repeat(63)}/${'*_|<@&'.repeat(42)}`,
    source_name: '*_|<@&'.repeat(42),
    mitre_tactic: '<script>'.repeat(16),
    mitre_ids: Array.from({ length: 32 }, () => 'T'.repeat(32)),
  },
  {
    message: '[*_`|<!everyone>@here&\\='.repeat(42),
    classification: '*|=\\'.repeat(64),
    cves: Array.from({ length: 32 }, () => 'C'.repeat(32)),
    links: ['javascript:alert(1)', ...Array.from({ length: 15 }, () => `https://x.example/${'l'.repeat(400)}`)],
  },
);
const foreign = { something: 'else', record: { event_id: 'x', timestamp: 'never' }, severity: 'high', seen_at: 7 };

type Name = Parameters<typeof formatOf>[0];

async function said(name: Name, events: readonly unknown[], oneByOne = false): Promise<string> {
  return formatOf(name, oneByOne).body(events.map(alertOf), CONTEXT);
}

describe.each<[Name, z.ZodType]>([
  ['slack', vendors.slack],
  ['teams', vendors.teams],
  ['discord', vendors.discord],
  ['pagerduty', vendors.pagerduty],
  ['falcosidekick', vendors.falcosidekick],
])('%s', (name, schema) => {
  test.each([
    ['an alert', plain],
    ['a fold of many', folded],
    ['one without names', bare],
    ['one that is as long as can be', huge],
    ["somebody else's line", foreign],
  ])("%s is what its vendor's schema takes", async (_, event) => {
    const body = await said(name, [event]);
    expect(schema.safeParse(JSON.parse(body)).error).toBeUndefined();
    expect(Buffer.byteLength(body)).toBeLessThan(vendors.TEAMS_BYTES);
  });

  test('a person reads severity, what, from where to where, how often, and where to look', async () => {
    const body = (await said(name, [folded])).replaceAll(/\\\\|\u200B/g, '');
    for (const text of ['Critical', 'beacon', 'shop/cart-1', '10.0.0.', 'shop/db-0', '1234', '21562'].filter(
      (each) => each !== '10.0.0.',
    )) {
      expect(body).toContain(text);
    }
    expect(body).toContain('https://dpi.example.com/alerts/?range=all&alert=0000');
    expect(body).toContain(folded.record.event_id);
  });

  test('a person can acknowledge it, where links are configured, by what the page takes', async () => {
    const [link] = /https:\/\/dpi\.example\.com\/alerts\/acknowledge\?[^")]+/.exec(await said(name, [folded])) ?? [];
    if (name === 'falcosidekick') return expect(link).toBeUndefined();
    const asked = Object.fromEntries(new URL(link ?? '').searchParams);
    const allowed = { alert: folded.record.event_id, until: 1_800_000_000, via: 'soc-chat' };
    expect(checkLink(asked, [KEY], 1_799_999_999_999)).toEqual({ is: 'valid', link: allowed });
    const without = await formatOf(name, false).body([toAlert(JSON.stringify(folded), { cluster: 'lab' })], CONTEXT);
    expect(without).not.toMatch(/acknowledge/i);
  });
});

describe.each<[Name, z.ZodType]>([
  ['alertmanager', vendors.alertmanager],
  ['loki', vendors.loki],
  ['otlp', vendors.otlp],
])('%s', (name, schema) => {
  test("a batch is what its vendor's schema takes", async () => {
    const body = await said(name, [plain, folded, bare, huge]);
    expect(schema.safeParse(JSON.parse(body)).error).toBeUndefined();
    for (const { record } of [plain, folded, bare, huge]) expect(body).toContain(record.event_id);
    expect(body).toContain('soc');
  });
});

test('ids are the same for the same event, and others for others', async () => {
  const dedup = async (event: EeEvent): Promise<unknown> =>
    (JSON.parse(await said('pagerduty', [event])) as { dedup_key: unknown }).dedup_key;
  const other = eventOf(0, {}, { snort_signature_id: '7' });
  expect(await dedup(plain)).toBe(await dedup(folded));
  expect(await dedup(other)).not.toBe(await dedup(plain));
  const uuid = async (event: EeEvent): Promise<unknown> =>
    (JSON.parse(await said('falcosidekick', [event])) as { uuid: unknown }).uuid;
  expect(await uuid(plain)).toBe(await uuid(plain));
  expect(await uuid(folded)).not.toBe(await uuid(plain));
});

test('an alert of one signature between the same pods has the same labels in Alertmanager', async () => {
  const labels = async (event: EeEvent): Promise<unknown> =>
    (JSON.parse(await said('alertmanager', [event])) as { labels: unknown }[])[0]?.labels;
  expect(await labels(folded)).toEqual(await labels({ ...plain, source_port: 999 }));
  expect(await labels(plain)).toEqual({
    alertname: 'DpiAgentAlert',
    severity: 'critical',
    signature: '1:21562',
    class: 'trojan-activity',
    resource: 'shop/web',
    namespace: 'shop',
    source: 'shop/cart-1',
    destination: 'shop/db-0',
    cluster: 'lab',
    node: 'node-1',
    team: 'soc',
  });
});

test("texts of rules and pods mean nothing in a chat's language", async () => {
  const slack = await said('slack', [plain]);
  expect(slack).not.toContain('<!channel>*');
  expect(slack).toContain('&lt;!channel&gt;');
  const discord = JSON.parse(await said('discord', [plain])) as { embeds: { title: string }[] };
  expect(discord.embeds[0]?.title).toContain(String.raw`\*beacon\* & \[more\]\(http\://evil.example\)`);
  expect(await said('teams', [plain])).toContain(
    JSON.stringify(String.raw`\[more\]\(http://evil.example\)`).slice(1, -1),
  );
});

test('Splunk gets events one after the other, NDJSON a line each', async () => {
  const lines = (await said('splunk-hec', [plain, folded])).trim().split('\n');
  for (const line of lines) expect(vendors.splunk.safeParse(JSON.parse(line)).error).toBeUndefined();
  expect(lines.map((line) => (JSON.parse(line) as { event: unknown }).event)).toEqual([plain, folded]);
  expect(await said('ndjson', [plain, folded])).toBe(`${JSON.stringify(plain)}\n${JSON.stringify(folded)}\n`);
});

test('CloudEvents are a batch or one, with the event as data', async () => {
  const batch = JSON.parse(await said('cloudevents', [plain, folded])) as { data: unknown }[];
  for (const event of batch) expect(vendors.cloudEvent.safeParse(event).error).toBeUndefined();
  expect(batch.map(({ data }) => data)).toEqual([plain, folded]);
  const one = JSON.parse(await said('cloudevents', [plain], true)) as object;
  expect(one).toMatchObject({ source: '/dpi-agent/lab/node-1', id: plain.record.event_id, data: plain });
  expect(formatOf('cloudevents', false).contentType([])).toBe('application/cloudevents-batch+json');
  expect(formatOf('cloudevents', true).contentType([])).toBe('application/cloudevents+json');
});

test('ECS documents are those of Elasticsearch', async () => {
  const documents = JSON.parse(await said('elastic-ecs', [plain, folded])) as { event: { id: string } }[];
  expect(documents.map(({ event }) => event.id)).toEqual([plain.record.event_id, folded.record.event_id]);
  expect(() => formatOf('elastic-ecs', false).body([alertOf(foreign)], CONTEXT)).toThrow();
});

test('times are exact to the microsecond', async () => {
  const exact = eventOf(0, {}, { timestamp: '2026-01-02T03:04:05.678901Z' });
  expect(await said('loki', [exact])).toContain('"1767323045678901000"');
  expect(await said('otlp', [exact])).toContain('"timeUnixNano":"1767323045678901000"');
});

describe('for SIEMs', () => {
  const tricky = alertOf(eventOf(0, {}, { message: 'a|b\\c=d', classification: 'x=y\\z' }));

  test('CEF escapes what it has to', () => {
    const text = toCef(tricky);
    expect(text).toMatch(
      /^CEF:0\|dpi-agent\|snort\|3\.1\.84\|1:21562\|a\\\|b\\\\c=d\|10\|externalId=0{40} rt=1767323045678 /,
    );
    expect(text).toContain(' src=192.0.2.1 spt=40000 dst=192.0.2.2 dpt=80 proto=TCP cat=x\\=y\\\\z dvchost=node-1 ');
    expect(text).toContain(' cs2=shop/cart-1 cs2Label=sourcePod ');
    expect(toCef(alertOf(bare))).toContain(' c6a2=2001:db8::1 c6a2Label=Source IPv6 Address dst=192.0.2.2 ');
  });

  test('LEEF has tabs between its fields and nowhere else', () => {
    const text = toLeef(tricky);
    const [header = '', ...more] = text.split('|x09|');
    expect(header).toBe('LEEF:2.0|dpi-agent|snort|3.1.84|1:21562');
    const fields = Object.fromEntries(
      more
        .join('|x09|')
        .split('\t')
        .map((field) => field.split(/=(.*)/s, 2)),
    );
    expect(fields).toMatchObject({
      sev: '10',
      src: '192.0.2.1',
      dstPort: '80',
      sourcePod: 'shop/cart-1',
      name: 'a|b\\c=d',
    });
  });

  test('no message has a newline, however long the event is', () => {
    for (const event of [plain, folded, bare, huge, foreign]) {
      expect(toCef(alertOf(event))).not.toMatch(/[\r\n]/);
      expect(toLeef(alertOf(event))).not.toMatch(/[\r\n]/);
    }
  });
});
