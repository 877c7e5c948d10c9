/**
 * What the agent says of itself over HTTP: `/health` (it lives), `/readiness` (it inspects), `/metrics` (Prometheus),
 * `/status` (the snapshot).
 *
 * `/status` names pods, rules and files, and is for this machine only: over the unix socket, which its owner alone may
 * open, or from a loopback address.
 *
 * Reads only. Does not depend on the API server or on Elasticsearch: an agent that loses either goes on inspecting, and
 * is ready.
 */
import { chmodSync, mkdirSync, statSync, unlinkSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { connect, type ListenOptions } from 'node:net';
import { dirname } from 'node:path';
import { errorCode, messageOf } from '../files/errors.ts';
import type { Readiness } from './readiness.ts';
import type { Snapshot } from './snapshot.ts';

/** What sockaddr_un holds beside the ending zero, unix(7). Node cuts what is longer. */
const MAX_SOCKET_PATH = 107;

export interface Answers {
  /** Why only a new process can go on; undefined while this one can. */
  stuck(): string | undefined;
  /** Whether it does what it is for, and why not: the JSON of `/readiness`. */
  readiness(): Pick<Readiness, 'ready'>;
  /** The text of `/metrics`. */
  metrics(): Promise<string>;
  /** What `/status` gives; nothing where there is no such thing. */
  status?(): Snapshot;
}

export interface ServerOptions extends Answers {
  port: number;
  /** By default all of the machine, IPv6 and IPv4. */
  address?: string;
}

export interface ObserveServer {
  port: number;
  close(): void;
}

/** Resolves when it listens. @throws Error when the address is taken or not the machine's. */
export async function serve({ port, address, ...answers }: ServerOptions): Promise<ObserveServer> {
  const server = createAnswers(answers);
  await listen(server, address === undefined ? { port } : { port, host: address });
  const bound = server.address();
  return { port: typeof bound === 'object' && bound !== null ? bound.port : port, close: () => close(server) };
}

/**
 * The same on a unix socket that only the agent's own user may open. The socket of an agent that was killed is
 * replaced.
 * @returns what closes and removes it.
 * @throws Error that says what to do: the path is too long, no socket, or another agent answers there.
 */
export async function serveSocket(path: string, answers: Answers): Promise<() => void> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    throw new Error(
      `${path} is longer than the ${MAX_SOCKET_PATH} bytes that a socket's path may have: set http.socket to a shorter one`,
    );
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o711 });
  const server = createAnswers(answers);
  try {
    await listen(server, { path });
  } catch (error) {
    if (errorCode(error) !== 'EADDRINUSE') throw error;
    if (!statSync(path).isSocket()) {
      throw new Error(`${path} is there and is no socket: move it away, or set http.socket to another path`, {
        cause: error,
      });
    }
    if (await answersAt(path)) {
      throw new Error(`another agent answers at ${path}: end it, or set http.socket to another path`, { cause: error });
    }
    unlinkSync(path);
    await listen(server, { path });
  }
  chmodSync(path, 0o600);
  return () => close(server);
}

function createAnswers(options: Answers): Server {
  const server = createServer((request, response) => {
    const answer = (status: number, text: string, type = 'text/plain; charset=utf-8'): void => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
      response.end(request.method === 'HEAD' ? '' : text);
    };
    if (request.method !== 'GET' && request.method !== 'HEAD') return answer(405, 'only GET and HEAD\n');
    switch (request.url?.split('?')[0]) {
      case '/health':
        return answer(options.stuck() === undefined ? 200 : 503, `${options.stuck() ?? 'ok'}\n`);
      case '/readiness': {
        const readiness = options.readiness();
        return answer(readiness.ready ? 200 : 503, `${JSON.stringify(readiness)}\n`, 'application/json');
      }
      case '/metrics':
        void options.metrics().then(
          (text) => answer(200, text, 'text/plain; version=0.0.4; charset=utf-8'),
          (error: unknown) => answer(500, `${messageOf(error)}\n`),
        );
        return;
      case '/status':
        if (options.status === undefined) return answer(404, 'there are /health, /readiness and /metrics\n');
        if (!isLocal(request.socket.remoteAddress)) {
          return answer(
            403,
            "only for this machine: ask its loopback address, or run dpi-agent status in the agent's pod\n",
          );
        }
        return answer(200, JSON.stringify(options.status()), 'application/json');
      default:
        return answer(404, 'there are /health, /readiness, /metrics and /status\n');
    }
  });
  // Who is slow or says nothing holds no connection for long.
  server.headersTimeout = 5_000;
  server.requestTimeout = 10_000;
  server.keepAliveTimeout = 5_000;
  server.maxConnections = 64;
  return server;
}

async function listen(server: Server, where: ListenOptions): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      resolve();
    });
  });
  server.on('error', () => undefined);
  server.unref();
}

function close(server: Server): void {
  server.close();
  server.closeAllConnections();
}

/** A unix socket has no address. */
function isLocal(address: string | undefined): boolean {
  return address === undefined || address === '::1' || /^(::ffff:)?127\./.test(address);
}

/** Whether somebody listens at a socket. */
function answersAt(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => done(true)).once('error', () => done(false));
  });
}
