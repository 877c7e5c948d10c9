/** Stands between a client and the real Elasticsearch: passes all on, but for the faults that a test asks for. */
import { createServer, request as plainRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import type { Certificate } from './certificates.ts';

export interface EsRequest {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
  /** Ids of a bulk's items; empty for other requests. */
  ids: string[];
}

export type EsFault =
  /** Items of a bulk that don't reach Elasticsearch, and what is said of them; the others do. */
  | { type: 'items'; status: (id: string, index: number) => ItemError | undefined }
  /** Answered here. */
  | { type: 'answer'; status: number; body?: string; headers?: Record<string, string> }
  /** Elasticsearch has it; half of its answer comes, then the connection ends. */
  | { type: 'cut' }
  /** Elasticsearch has it; what it answers is changed. */
  | { type: 'change'; body: (text: string) => string }
  /** Never answered; `applied`: Elasticsearch has it. `head`: status and headers come, and nothing of the body. */
  | { type: 'hang'; applied?: boolean; head?: boolean }
  /** The connection is reset before anything else. */
  | { type: 'reset' }
  /** All as it should be, later. */
  | { type: 'slow'; millis: number };

export interface ItemError {
  status: number;
  type: string;
  reason?: string;
}

export interface EsProxy {
  /** `http://127.0.0.1:…`, or https with a certificate. */
  url: string;
  requests: EsRequest[];
  /** Of the requests. */
  bulks(): EsRequest[];
  /** Asked for each request. */
  fault: ((request: EsRequest) => EsFault | undefined) | undefined;
  close(): Promise<void>;
}

/** @param server `http://…`. */
export async function startEsProxy(server: string, tls?: Certificate): Promise<EsProxy> {
  const sockets = new Set<Socket>();
  const listener = (incoming: IncomingMessage, answer: ServerResponse): void => {
    pass(incoming, answer).catch(() => incoming.socket.destroy());
  };
  const http =
    tls === undefined ? createServer(listener) : createTlsServer({ key: tls.key, cert: tls.certificate }, listener);
  http.on(tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));

  const proxy: EsProxy = {
    url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${(http.address() as AddressInfo).port}`,
    requests: [],
    bulks: () => proxy.requests.filter(({ path }) => path.includes('/_bulk')),
    fault: undefined,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => http.close(resolve));
    },
  };

  async function pass(incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    const { method = 'GET', url: path = '/', headers } = incoming;
    const raw = await read(incoming);
    const body = headers['content-encoding'] === 'gzip' ? gunzipSync(raw) : raw;
    const lines = path.includes('/_bulk') ? body.toString().split('\n') : [];
    const ids = lines.flatMap((line, index) =>
      index % 2 === 0 && line !== '' ? [(JSON.parse(line) as { create: { _id: string } }).create._id] : [],
    );
    const request = { method, path, headers, ids };
    proxy.requests.push(request);
    const fault = proxy.fault?.(request);
    const go = (payload: Buffer): Promise<Answer> => forward(method, path, headers, payload);

    switch (fault?.type) {
      case 'answer':
        answer.writeHead(fault.status, {
          'content-type': 'application/json',
          'x-elastic-product': 'Elasticsearch',
          ...fault.headers,
        });
        answer.end(fault.body);
        return;
      case 'reset':
        incoming.socket.resetAndDestroy();
        return;
      case 'hang': {
        if (fault.applied === true) await go(body);
        if (fault.head === true)
          answer
            .writeHead(200, { 'content-type': 'application/json', 'x-elastic-product': 'Elasticsearch' })
            .flushHeaders();
        return;
      }
      case 'cut': {
        const whole = await go(body);
        answer.writeHead(whole.status, { ...whole.headers, 'content-length': whole.body.length });
        answer.write(whole.body.subarray(0, whole.body.length / 2), () => incoming.socket.destroy());
        return;
      }
      case 'change':
        return reply(answer, await go(body), fault.body);
      case 'items':
        return reply(answer, await withItems(lines, ids, fault.status, go));
      case 'slow':
        await sleep(fault.millis);
        return reply(answer, await go(body));
      default:
        return reply(answer, await go(body));
    }
  }

  /** Sends the items without a fault on, and puts the answer together in order. */
  async function withItems(
    lines: string[],
    ids: string[],
    status: (id: string, index: number) => ItemError | undefined,
    go: (payload: Buffer) => Promise<Answer>,
  ): Promise<Answer> {
    const faults = ids.map((id, index) => status(id, index));
    const kept = ids.flatMap((_, index) =>
      faults[index] === undefined ? [`${lines[2 * index]}\n${lines[2 * index + 1]}\n`] : [],
    );
    const whole =
      kept.length === 0
        ? {
            status: 200,
            headers: { 'content-type': 'application/json', 'x-elastic-product': 'Elasticsearch' },
            body: Buffer.from('{"items":[]}'),
          }
        : await go(Buffer.from(kept.join('')));
    const { items } = JSON.parse(whole.body.toString()) as { items: unknown[] };
    const all = ids.map((id, index) => {
      const error = faults[index];
      if (error === undefined) return items.shift();
      const { status: code, type, reason = 'asked for by the test' } = error;
      return { create: { _id: id, status: code, error: { type, reason } } };
    });
    return { ...whole, body: Buffer.from(JSON.stringify({ errors: true, items: all })) };
  }

  function forward(method: string, path: string, headers: IncomingMessage['headers'], body: Buffer): Promise<Answer> {
    const { 'content-encoding': _, 'transfer-encoding': __, ...rest } = headers;
    return new Promise((resolve, reject) => {
      const target = new URL(path, server);
      const outgoing = plainRequest(target, {
        method,
        headers: { ...rest, host: target.host, connection: 'close', 'content-length': body.length },
        agent: false,
      });
      outgoing.on('error', reject);
      outgoing.on('response', (response) => {
        const { 'transfer-encoding': ___, connection: ____, ...kept } = response.headers;
        read(response).then(
          (whole) => resolve({ status: response.statusCode ?? 502, headers: kept, body: whole }),
          reject,
        );
      });
      outgoing.end(body);
    });
  }

  return proxy;
}

interface Answer {
  status: number;
  headers: IncomingMessage['headers'];
  body: Buffer;
}

function reply(answer: ServerResponse, { status, headers, body }: Answer, change?: (text: string) => string): void {
  const bytes = change === undefined ? body : Buffer.from(change(body.toString()));
  answer.writeHead(status, { ...headers, 'content-length': bytes.length });
  answer.end(bytes);
}

async function read(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
