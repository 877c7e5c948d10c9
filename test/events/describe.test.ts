import { expect, test } from '@jest/globals';
import type { Description } from '../../agent/events/app.ts';
import { describedRecord, withKnown } from '../../agent/events/describe.ts';
import { toEcs } from '../../agent/events/ecs.ts';
import { MAX_EVENT_BYTES, toEvent, type EeEvent } from '../../agent/events/event.ts';
import { alertEvent } from '../support/alerts.ts';
import { attributedAlert } from '../support/attributed.ts';

const event = alertEvent(1, Date.parse('2026-11-25T12:00:00Z'));
const traffic = {
  packets_to_server: 5,
  packets_to_client: 4,
  bytes_to_server: 500,
  bytes_to_client: 400,
  duration_us: 2_000,
  answer_us: 30,
};
const described: Description = {
  outcome: '4xx',
  communityId: '1:LQU9qZlK+B5F3KDmev6m5PMibrg=',
  traffic,
  app: {
    protocol: 'http',
    http: {
      version: '1.1',
      method: 'GET',
      host: 'web.shop.test:8080',
      url: '/a?b=c#d',
      user_agent: 'curl/7.88.1',
      referrer: 'http://a.test/',
      x_forwarded_for: '192.0.2.9, 10.0.0.1',
      status: 404,
      response: { content_type: 'text/HTML; charset=utf-8', bytes: 7, body: 'nothing' },
    },
  },
};

const withDescription = (to: EeEvent, description: Description): EeEvent => withKnown(to, describedRecord(description));

test('an event says what its flow said', () => {
  expect(withDescription(event, described).record).toMatchObject({
    message: event.record.message,
    outcome: '4xx',
    community_id: described.communityId,
    traffic,
    app: described.app,
  });
});

test('payload makes room for it', () => {
  const payload = 'A'.repeat(MAX_EVENT_BYTES - 4_000);
  const long = { ...event, record: { ...event.record, payload, payload_bytes: 1e6 } };
  const { app } = described;
  const wide = {
    ...described,
    app: { protocol: 'http', http: { ...app?.http, response: { body: 'x'.repeat(8_000) } } },
  };
  const { record, ...rest } = withDescription(long, wide);
  expect(Buffer.byteLength(JSON.stringify({ ...rest, record }))).toBeLessThan(MAX_EVENT_BYTES);
  expect(record.payload_truncated).toBe(true);
  expect(record.payload?.length).toBeGreaterThan(MAX_EVENT_BYTES - 16_000);
  expect(Buffer.from(record.payload ?? '', 'base64').toString('base64')).toBe(record.payload);
});

test("a flow's packets are told in both schemas", () => {
  const packets = { count: 2, bytes: 120, first: '', last: '', complete: true, file: 'x.pcapng' };
  const known = withKnown(event, { packets });
  expect(toEcs(known, 'prod')).toMatchObject({ dpi_agent: { packets } });
});

test('HTTP in the names of ECS', () => {
  expect(toEcs(withDescription(event, described), 'prod')).toMatchObject({
    http: {
      version: '1.1',
      request: { method: 'GET', referrer: 'http://a.test/' },
      response: { status_code: 404, mime_type: 'text/html', body: { bytes: 7, content: 'nothing' } },
    },
    url: {
      original: '/a?b=c#d',
      full: 'http://web.shop.test:8080/a?b=c#d',
      scheme: 'http',
      domain: 'web.shop.test',
      port: 8080,
      path: '/a',
      query: 'b=c',
    },
    user_agent: { original: 'curl/7.88.1' },
    network: { community_id: described.communityId, forwarded_ip: '192.0.2.9', bytes: 900, packets: 9 },
    source: { bytes: 500, packets: 5 },
    destination: { bytes: 400, packets: 4 },
    event: { duration: 2_000_000 },
    related: { hosts: ['web.shop.test'] },
    dpi_agent: { app: 'http', outcome: '4xx', answer_us: 30, http: { host: 'web.shop.test:8080' } },
  });
});

test('DNS and TLS in the names of ECS, of an alert on the answer', () => {
  const certificate = {
    subject: 'CN=shop.test',
    issuer: 'CN=ca',
    serial: '0a1b',
    not_before: '2026-11-30T07:47:05Z',
    not_after: '2026-12-30T07:47:05Z',
    sha1: 'ab',
    sha256: 'cd',
    names: ['shop.test'],
  };
  const app = {
    protocol: 'tls',
    dns: {
      id: 7,
      questions: [{ name: 'shop.test', type: 'A' }],
      answers: [{ name: 'shop.test', type: 'A', ttl: 60, data: '192.0.2.1' }],
      rcode: 'NOERROR',
    },
    tls: { sni: 'shop.test', version: '1.2', alpn: ['h2'], ja3: '1', ja3s: '2', ja4: '3', certificate },
  };
  const document = toEcs(
    withDescription(event, { outcome: 'answered', app, traffic: { ...traffic, from_server: true } }),
    'prod',
  );
  expect(document).toMatchObject({
    dns: {
      id: '7',
      type: 'answer',
      question: { name: 'shop.test', type: 'A' },
      answers: app.dns.answers,
      response_code: 'NOERROR',
      resolved_ip: ['192.0.2.1'],
    },
    tls: {
      version: '1.2',
      version_protocol: 'tls',
      next_protocol: 'h2',
      client: { server_name: 'shop.test', ja3: '1' },
      server: {
        ja3s: '2',
        subject: 'CN=shop.test',
        hash: { sha1: 'AB', sha256: 'CD' },
        x509: { serial_number: '0A1B', alternative_names: ['shop.test'] },
      },
    },
    source: { bytes: 400 },
    destination: { bytes: 500 },
    dpi_agent: { tls: { ja4: '3' } },
  });
});

test('what the engine says of SMB stays where the packets say nothing', () => {
  const smb = { command: 'SMB2_COMMAND_CREATE', filename: 'a\u202Ee.exe' };
  const said = toEvent(attributedAlert({ smb, files: [{ name: 'a.exe', size: 3 }] }), {
    payload: false,
    maxBytes: 0,
    rule: false,
  });
  const { record } = withDescription(said, { outcome: 'answered', traffic });
  expect(record.app).toEqual({ protocol: 'smb', smb: { command: 'SMB2_COMMAND_CREATE', filename: 'ae.exe' } });
  expect(record.files).toEqual([{ name: 'a.exe', size: 3 }]);
  expect(toEcs({ ...said, record }, 'prod')).toMatchObject({
    dpi_agent: { app: 'smb', smb: { command: 'SMB2_COMMAND_CREATE' }, files: [{ name: 'a.exe' }] },
  });
});
