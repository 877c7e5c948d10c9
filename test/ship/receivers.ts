/** Receivers on loopback that stumble: a store of documents by their ids, and a collector of syslog. */
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { gunzipSync } from 'node:zlib';

export interface Receiver {
  address: string;
  /** Ids in the order in which they came; of a store, each once. */
  came: string[];
  close(): Promise<void>;
}

/**
 * Answers `_bulk` as Elasticsearch does. Of some batches it takes the first half and asks the rest to wait; some it
 * takes and says nothing, or half of what it would.
 */
export async function startStore(random: () => number): Promise<Receiver> {
  const taken = new Set<string>();
  const server = createHttpServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('error', () => undefined);
    request.on('end', () => {
      const body = Buffer.concat(chunks);
      const text = (request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body).toString();
      const fault = random();
      const answer = JSON.stringify({ items: takeSome(text, fault < 0.1) });
      response.writeHead(200, { 'content-type': 'application/json', 'x-elastic-product': 'Elasticsearch' });
      if (fault > 0.95) request.socket.destroy();
      else if (fault > 0.9) response.write(answer.slice(0, answer.length / 2), () => request.socket.destroy());
      else response.end(answer);
    });
  });
  function takeSome(text: string, isBusy: boolean): object[] {
    const actions = text.split('\n').filter((_, index) => index % 2 === 0);
    const ids = actions.filter(Boolean).map((line) => (JSON.parse(line) as { create: { _id: string } }).create._id);
    return ids.map((_id, index) => ({ create: { _id, ...take(_id, isBusy && index >= ids.length / 2) } }));
  }
  function take(id: string, isBusy: boolean): object {
    if (isBusy) return { status: 429, error: { type: 'es_rejected_execution_exception', reason: 'busy' } };
    if (taken.has(id)) return { status: 409, error: { type: 'version_conflict_engine_exception', reason: 'there' } };
    taken.add(id);
    came.push(id);
    return { status: 201 };
  }
  const came: string[] = [];
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    came,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** `away()`: reads what its connections have sent, ends them, and takes no other for a while. */
export async function startCollector(): Promise<Receiver & { away(millis: number): Promise<void> }> {
  const came: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    let rest = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => (rest = takeFrames(Buffer.concat([rest, chunk]), came)));
    socket.on('end', () => socket.end());
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    address: `127.0.0.1:${port}`,
    came,
    async away(millis) {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.end();
      await closed;
      await new Promise((resolve) => setTimeout(resolve, millis));
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Whole messages, by the length before them. @returns what is left. */
function takeFrames(bytes: Buffer, came: string[]): Buffer<ArrayBuffer> {
  let start = 0;
  for (;;) {
    const space = bytes.indexOf(' ', start);
    const length = space < 0 ? 0 : Number(bytes.toString('latin1', start, space));
    if (space < 0 || bytes.length < space + 1 + length) return Buffer.from(bytes.subarray(start));
    const message = bytes.toString('utf8', space + 1, space + 1 + length);
    came.push((JSON.parse(message.slice(message.indexOf('{'))) as { record: { event_id: string } }).record.event_id);
    start = space + 1 + length;
  }
}
