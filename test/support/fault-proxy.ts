/** Stands between a client and the real API server: passes everything on, but for the faults that a test asks for. */
import { createServer, request as plainRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { connect, createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net';

export interface ProxiedRequest {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  watch: boolean;
}

export type Fault =
  /** Answered here. */
  | { type: 'answer'; status: number; body?: string }
  /** Never answered. */
  | { type: 'hang' }
  /** The connection ends without an answer. */
  | { type: 'reset' }
  /** What comes from the server, chunk by chunk, as it shall be; undefined: dropped. */
  | { type: 'body'; change: (chunk: Buffer) => Buffer | undefined };

export interface FaultProxy {
  /** `http://127.0.0.1:…` */
  url: string;
  requests: ProxiedRequest[];
  /** Connections that were made to it so far. */
  connections(): number;
  /** Asked for each request. */
  fault: ((request: ProxiedRequest) => Fault | undefined | Promise<Fault | undefined>) | undefined;
  /** Ends all connections at once. */
  cut(): void;
  close(): Promise<void>;
}

/** @param server The API server's address; its certificate is not looked at. */
export async function startFaultProxy(server: string): Promise<FaultProxy> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const http = createServer((incoming, answer) => void pass(incoming, answer));
  http.on('connection', (socket: Socket) => {
    connections++;
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });

  const proxy: FaultProxy = {
    url: `http://127.0.0.1:${await listen(http)}`,
    requests: [],
    connections: () => connections,
    fault: undefined,
    cut() {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    async close() {
      proxy.cut();
      await new Promise((resolve) => http.close(resolve));
    },
  };

  async function pass(incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    const url = new URL(incoming.url ?? '/', server);
    const request = {
      method: incoming.method ?? 'GET',
      path: url.pathname,
      query: url.searchParams,
      headers: incoming.headers,
      watch: url.searchParams.has('watch'),
    };
    proxy.requests.push(request);
    const fault = await proxy.fault?.(request);
    if (fault?.type === 'answer') {
      answer.writeHead(fault.status, { 'Content-Type': 'application/json' }).end(fault.body);
    } else if (fault?.type === 'reset') incoming.socket.resetAndDestroy();
    else if (fault === undefined || fault.type === 'body') {
      forward(url, incoming, answer, fault?.change ?? ((chunk) => chunk));
    }
  }

  function forward(
    url: URL,
    incoming: IncomingMessage,
    answer: ServerResponse,
    change: (chunk: Buffer) => Buffer | undefined,
  ): void {
    const options = {
      method: incoming.method ?? 'GET',
      headers: { ...incoming.headers, host: url.host },
      rejectUnauthorized: false,
      agent: false,
    };
    const outgoing = (url.protocol === 'https:' ? tlsRequest : plainRequest)(url, options, (response) => {
      answer.writeHead(response.statusCode ?? 502, response.headers).flushHeaders();
      response.on('data', (chunk: Buffer) => {
        const changed = change(chunk);
        if (changed !== undefined) answer.write(changed);
      });
      response.on('end', () => answer.end());
      response.on('error', () => incoming.socket.destroy());
    });
    outgoing.on('error', () => incoming.socket.destroy());
    answer.on('close', () => outgoing.destroy());
    incoming.pipe(outgoing);
  }

  return proxy;
}

export interface Relay {
  /** `https://127.0.0.1:…`, or the socket's path. */
  url: string;
  connections(): number;
  close(): Promise<void>;
}

/**
 * Passes connections on as they are, TLS included, and counts them.
 * @param path A socket to listen on, for those in other networks.
 */
export async function startRelay(server: string, path?: string): Promise<Relay> {
  const { hostname, port } = new URL(server);
  const sockets = new Set<Socket>();
  let connections = 0;
  const tcp = createTcpServer((client) => {
    connections++;
    const upstream = connect(Number(port), hostname);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.once('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  const url = path ?? `https://127.0.0.1:${await listen(tcp)}`;
  if (path !== undefined) await new Promise<void>((resolve) => tcp.listen(path, resolve));
  return {
    url,
    connections: () => connections,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => tcp.close(resolve));
    },
  };
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}
