/** Journals and indices with alerts, and queries on them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig, type Config } from '../../agent/config/load.ts';
import type { EeEvent } from '../../agent/events/event.ts';
import { pcapng } from '../../agent/evidence/pcapng.ts';
import { openJournal, type Journal } from '../../agent/journal/journal.ts';
import type { ReadPackets } from '../../agent/ship/destination.ts';
import { createElasticsearch } from '../../agent/ship/elasticsearch/elasticsearch.ts';
import type { Schema } from '../../agent/ship/elasticsearch/template.ts';
import type { Order } from '../../agent/ui/api.ts';
import { parseQuery, type AlertQuery } from '../../agent/ui/query.ts';
import { PAGE_ROWS, type PageRequest } from '../../agent/ui/source.ts';
import { alertEvent } from '../support/alerts.ts';
import { tcpConversation } from '../support/packets.ts';

/** The time that tests are at; alerts are from the day before. */
export const NOW = Date.parse('2026-11-25T12:00:00Z');

export interface TestJournal {
  directory: string;
  marksFile: string;
  append(...events: EeEvent[]): Promise<void>;
  remove(): Promise<void>;
}

export async function makeJournal(...events: EeEvent[]): Promise<TestJournal> {
  const parent = mkdtempSync(join(tmpdir(), 'dpi-ui-'));
  const directory = join(parent, 'journal');
  const journal: Journal = await openJournal({
    directory,
    segmentSize: 1 << 20,
    maxSize: 64 << 20,
    segmentAge: 86_400_000,
    maxAge: 0,
    fsync: false,
  });
  const append = async (...more: EeEvent[]): Promise<void> =>
    journal.append(more.map((event) => ({ position: event.record.position, json: JSON.stringify(event) })));
  if (events.length > 0) await append(...events);
  return {
    directory,
    marksFile: join(parent, 'marks.ndjson'),
    append,
    async remove() {
      await journal.close();
      rmSync(parent, { recursive: true, force: true });
    },
  };
}

/** So many alerts, one every few minutes, up to a time. */
export function alertsUntil(now: number, count: number, step = 240_000): EeEvent[] {
  return Array.from({ length: count }, (_, number) => alertEvent(number, now - (count - number) * step));
}

export function queryOf(text: string, now: number = NOW): AlertQuery {
  const parameters: Record<string, string | string[]> = {};
  for (const [name, value] of new URLSearchParams(text)) {
    const known = parameters[name];
    parameters[name] = known === undefined ? value : [known, value].flat();
  }
  return parseQuery(parameters, now);
}

/** @param after What the page before gave as `next`. */
export function pageOf(after?: string, order: Order = 'time', size: number = PAGE_ROWS): PageRequest {
  return { ...(after === undefined ? {} : { after }), size, order };
}

export const never: AbortSignal = new AbortController().signal;

export function sinkConfig(url: string, schema: Schema): Config['sinks']['elasticsearch'] {
  const loaded = loadConfig({
    env: {},
    flags: { 'sinks.elasticsearch.nodes': [url], 'sinks.elasticsearch.schema': schema },
  });
  if ('errors' in loaded) throw new Error(loaded.errors.map(({ message }) => message).join('\n'));
  return loaded.config.sinks.elasticsearch;
}

/** The capture file of an alert over TCP whose fourth packet, the source's first payload, fired it. */
export function captureFile(event: EeEvent, request: string, answer: string): Buffer {
  const { source_ip: client, dest_ip: server, source_port: clientPort, dest_port: serverPort, record } = event;
  const fired = Date.parse(record.timestamp) * 1000 + Number(record.timestamp.slice(-4, -1));
  const frames = tcpConversation({
    client,
    server,
    ...(clientPort === undefined ? {} : { clientPort }),
    ...(serverPort === undefined ? {} : { serverPort }),
    start: fired - 3_000,
    exchange: [
      { from: 'client', data: request },
      { from: 'server', data: answer },
    ],
  });
  const packets = frames.map(({ timeMicros, data }) => ({
    time: timeMicros,
    frame: data,
    length: data.length,
    linkType: 1,
  }));
  const facts = { packets: { count: packets.length, complete: true } };
  const source = { interface: 'cali1', namespace: 'shop', pod: 'web', node: 'n1' };
  return pcapng(packets, source, [{ packet: 3, text: 'alert' }], JSON.stringify(facts));
}

/** As an agent sends them. @throws Error when one is not taken. */
export async function deliverTo(
  url: string,
  cluster: string,
  schema: Schema,
  events: readonly EeEvent[],
  packets?: ReadPackets,
): Promise<void> {
  const log = { info: () => undefined, warn: () => undefined };
  const sink = createElasticsearch({ config: sinkConfig(url, schema), cluster, log });
  const items = events.map((event, number) => ({
    number,
    id: event.record.event_id,
    json: JSON.stringify(event),
    ...(packets === undefined ? {} : { packets }),
  }));
  try {
    const failed = (await sink.send(items, never)).filter(({ is }) => is !== 'delivered');
    if (failed.length > 0) throw new Error(`not delivered: ${JSON.stringify(failed[0])}`);
  } finally {
    await sink.close();
  }
}
