/**
 * What the agent says of itself over HTTP: `/health` (it lives), `/readiness` (it inspects), `/metrics` (Prometheus).
 *
 * Reads only. Does not depend on the API server or on Elasticsearch: an agent that loses either goes on inspecting, and is ready.
 */
import { createServer } from 'node:http';

export interface ServerOptions {
  port: number;
  /** By default all of the machine, IPv6 and IPv4. */
  address?: string;
  /** What keeps it from inspecting; empty when it is ready. */
  problems(): string[];
  /** The text of `/metrics`. */
  metrics(): Promise<string>;
}

export interface ObserveServer {
  port: number;
  close(): void;
}

/** Resolves when it listens. @throws Error when the address is taken or not the machine's. */
export async function serve(options: ServerOptions): Promise<ObserveServer> {
  const server = createServer((request, response) => {
    const answer = (status: number, text: string, type = 'text/plain; charset=utf-8'): void => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
      response.end(request.method === 'HEAD' ? '' : text);
    };
    if (request.method !== 'GET' && request.method !== 'HEAD') return answer(405, 'only GET and HEAD\n');
    switch (request.url?.split('?')[0]) {
      case '/health':
        return answer(200, 'ok\n');
      case '/readiness': {
        const problems = options.problems();
        return answer(problems.length === 0 ? 200 : 503, problems.length === 0 ? 'ok\n' : `${problems.join('\n')}\n`);
      }
      case '/metrics':
        void options.metrics().then(
          (text) => answer(200, text, 'text/plain; version=0.0.4; charset=utf-8'),
          (error: unknown) => answer(500, `${error instanceof Error ? error.message : String(error)}\n`),
        );
        return;
      default:
        return answer(404, 'there are /health, /readiness and /metrics\n');
    }
  });
  // Who is slow or says nothing holds no connection for long.
  server.headersTimeout = 5_000;
  server.requestTimeout = 10_000;
  server.keepAliveTimeout = 5_000;
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.address, resolve);
  });
  server.on('error', () => undefined);
  server.unref();
  const bound = server.address();
  return {
    port: typeof bound === 'object' && bound !== null ? bound.port : options.port,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
