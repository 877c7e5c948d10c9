/** A real HTTP server on loopback that answers as a test says, also as no server should. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';

export interface Received {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
  body: string;
  /** The client's certificate, where one was asked for. */
  client?: string;
}

export type Reply = (request: Received, response: ServerResponse, socket: Socket) => unknown;

export interface TestServer {
  url: string;
  received: Received[];
  /** What comes next is answered so. */
  reply(reply: Reply): void;
  close(): Promise<void>;
}

export const answer =
  (status: number, text = '', headers: Record<string, string> = {}): Reply =>
  (_, response) =>
    response.writeHead(status, headers).end(text);

export async function startServer(first: Reply = answer(204), tls?: ServerOptions): Promise<TestServer> {
  let current = first;
  const received: Received[] = [];
  const sockets = new Set<Socket>();
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const entry: Received = {
      method: request.method ?? '',
      path: request.url ?? '',
      headers: request.headers,
      body: Buffer.concat(chunks).toString(),
    };
    if ('getPeerCertificate' in request.socket && typeof request.socket.getPeerCertificate === 'function') {
      const { subject } = request.socket.getPeerCertificate() as { subject?: { CN?: string } };
      if (subject?.CN !== undefined) entry.client = subject.CN;
    }
    received.push(entry);
    await current(entry, response, request.socket);
  };
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    handle(request, response).catch(() => request.socket.destroy());
  };
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    reply: (next) => void (current = next),
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
