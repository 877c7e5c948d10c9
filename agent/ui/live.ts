/** New alerts as server-sent events, until the page goes, or its user may no longer see them. */
import type { FastifyReply } from 'fastify';
import { HEADERS } from './answers.ts';
import type { User } from './access.ts';
import type { AlertRow, LiveMessage, MarkMessage } from './api.ts';
import { inScope, matches, type AlertQuery, type Scope } from './query.ts';
import { Refused } from './refused.ts';
import type { AlertSource, Marked } from './source.ts';

const MAX_STREAMS = 200;
const HEARTBEAT_MILLIS = 15_000;
/** A page that does not read its stream loses it. */
const STREAM_BYTES = 4 << 20;

type Stream = FastifyReply['raw'];

export interface Live {
  /** @throws Refused where too many pages follow already. */
  follow(reply: FastifyReply, follower: Follower): void;
  /** Tells who may see them what was made of alerts. */
  tell(marked: readonly Marked[], mark: Omit<MarkMessage, 'ids'>): void;
}

export interface Follower {
  readonly user: User;
  readonly query: AlertQuery;
  /** What the user may see, as it was last looked up. */
  scope: Scope;
  /** Who the page's user is by now. */
  whoIs(): Promise<User | undefined>;
}

export function createLive(source: Pick<AlertSource, 'subscribe'>): Live {
  const streams = new Map<Stream, Follower>();
  return {
    follow(reply, follower) {
      if (streams.size >= MAX_STREAMS) throw new Refused(503, 'too many pages follow the alerts: this one does not');
      const stream = reply.hijack().raw;
      streams.set(stream, follower);
      begin(stream);
      const end = source.subscribe({
        rows: (rows, more) => writeAlerts(stream, follower, rows, more),
        ready: () => writeEvent(stream, 'ready', {}),
      });
      const heartbeat = setInterval(() => beat(stream, follower), HEARTBEAT_MILLIS);
      stream.once('close', () => {
        streams.delete(stream);
        clearInterval(heartbeat);
        end();
      });
    },
    tell(marked, mark) {
      for (const [stream, { scope }] of streams) {
        const ids = marked.flatMap(({ id, namespace }) => (inScope(scope, namespace) ? [id] : []));
        if (ids.length > 0) writeEvent(stream, 'marks', { ids, ...mark } satisfies MarkMessage);
      }
    },
  };
}

function begin(stream: Stream): void {
  stream.writeHead(200, {
    ...HEADERS,
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    // Nginx would hold it back.
    'x-accel-buffering': 'no',
  });
  stream.write('retry: 3000\n\n');
}

function writeAlerts(stream: Stream, { query, scope }: Follower, rows: AlertRow[], more: boolean): void {
  const selected = rows.filter((row) => inScope(scope, row.namespace) && matches(query, row));
  if (selected.length === 0 && !more) return;
  const message: LiveMessage = { rows: selected, more };
  writeEvent(stream, 'alerts', message);
}

function writeEvent(stream: Stream, name: string, data: object): void {
  write(stream, `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
}

/** Says that it is still there, and looks up what its user may see by now. */
function beat(stream: Stream, follower: Follower): void {
  write(stream, ': still here\n\n');
  follower
    .whoIs()
    .then(async (current) => {
      if (current === undefined || current.name !== follower.user.name) stream.end();
      else follower.scope = await current.readable();
    })
    .catch(() => stream.end());
}

function write(stream: Stream, text: string): void {
  if (stream.writableLength > STREAM_BYTES) stream.destroy();
  else stream.write(text);
}
