/**
 * Events as syslog messages (RFC 5424):
 * `<PRI>1 TIMESTAMP HOSTNAME dpi-agent PROCID ee_event [origin software="dpi-agent"] JSON`
 *
 * Or, with the format `cef` or `leef`, `… ee_event - CEF:0|…`, where the payload is left out.
 *
 * TIMESTAMP is the packet's, HOSTNAME the event's node. The JSON is UTF-8 without a byte order mark, so it counts as
 * MSG-ANY. Severity, from the event's: 100 is alert (1), from 80 critical (2), from 60 error (3), from 40 warning (4),
 * from 20 notice (5), else informational (6).
 *
 * Transports: TCP with octet counting or newlines (RFC 6587), TLS with the same framing (RFC 5425; certificate and name
 * are verified), UDP with one message a datagram (RFC 5426). A datagram has at most 65,000 bytes: a longer event goes
 * without `record.payload` (`payload_truncated: true`), and is rejected when that is not enough.
 *
 * Not promised: that the collector has what counts as delivered. Syslog has no acknowledgements. Over TCP and TLS an
 * event counts when the kernel has taken it: what lay in its buffer when a connection broke may be lost, and a part of
 * it may arrive twice. Over UDP any datagram may be lost, silently.
 */
import { createSocket } from 'node:dgram';
import type { Socket as DatagramSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { readFile } from 'node:fs/promises';
import { connect as connectTcp, isIP } from 'node:net';
import type { Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { isNativeError } from 'node:util/types';
import type { Config } from '../config/schema.ts';
import { errorCode, messageOf } from '../files/errors.ts';
import { isRecord } from '../files/record.ts';
import { type Destination, type Item, type Outcome, SendError } from './destination.ts';
import { toAlert, type About } from './formats/alert.ts';
import { toCef } from './formats/cef.ts';
import { toLeef } from './formats/leef.ts';
import { opensslWords } from './openssl-words.ts';

const TIMEOUT_MILLIS = 30_000;
/** What is waited for at once: that the kernel takes so many bytes is progress. A TLS record has no more. */
const PIECE_BYTES = 16 << 10;
const MAX_DATAGRAM_BYTES = 65_000;

/** Codes of RFC 5424, table 1. */
const FACILITY: Record<Config['sinks']['syslog']['facility'], number> = {
  kern: 0,
  user: 1,
  mail: 2,
  daemon: 3,
  auth: 4,
  syslog: 5,
  lpr: 6,
  news: 7,
  uucp: 8,
  cron: 9,
  authpriv: 10,
  ftp: 11,
  ntp: 12,
  audit: 13,
  alert: 14,
  clock: 15,
  local0: 16,
  local1: 17,
  local2: 18,
  local3: 19,
  local4: 20,
  local5: 21,
  local6: 22,
  local7: 23,
};

type Settings = Config['sinks']['syslog'];

export interface SyslogOptions
  extends Pick<Settings, 'protocol' | 'facility'>, Partial<Pick<Settings, 'framing' | 'format'>> {
  /** `host:port` or `[IPv6]:port`. */
  address: string;
  caFile?: string | undefined;
  /** For the formats that say it. */
  about?: About;
  /**
   * How long connecting may take, and how long a collector may take nothing of a batch, in milliseconds. A slow link
   * takes a batch in any time.
   */
  timeoutMillis?: number;
}

export function createSyslog(options: SyslogOptions): Destination {
  const colon = options.address.lastIndexOf(':');
  const host = options.address.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  const port = Number(options.address.slice(colon + 1));
  const target = { ...options, host, port, timeoutMillis: options.timeoutMillis ?? TIMEOUT_MILLIS };
  return options.protocol === 'udp' ? datagrams(target) : stream(target);
}

type Target = SyslogOptions & { host: string; port: number; timeoutMillis: number };

function stream(target: Target): Destination {
  let socket: Socket | undefined;
  return {
    async send(items, signal) {
      signal.throwIfAborted();
      // What the peer did since the last send, such as closing, is told to the socket now.
      await turn();
      if (socket === undefined || !usable(socket)) {
        socket?.destroy();
        socket = open(target, await readCa(target));
        await untilConnected(target, socket, signal);
      }
      await write(target, socket, framed(target, items), signal);
      return items.map(() => ({ is: 'delivered' }));
    },
    async close() {
      if (socket !== undefined && !socket.destroyed) await end(socket);
    },
  };
}

/** A connection that begins. @param ca Who signs the collector's certificate; undefined: whom the system trusts. */
function open({ protocol, host, port }: Target, ca: Buffer | undefined): Socket {
  const socket =
    protocol === 'tls'
      ? connectTls({
          host,
          port,
          ...(isIP(host) === 0 ? { servername: host } : {}),
          ...(ca === undefined ? {} : { ca }),
        })
      : connectTcp({ host, port });
  // Between sends nobody else listens; `usable` sees what happened.
  socket.on('error', () => undefined);
  // Collectors say nothing; reading is how the end of the connection is noticed.
  socket.resume();
  socket.setNoDelay(true);
  socket.setKeepAlive(true, 30_000);
  return socket;
}

function untilConnected(target: Target, socket: Socket, signal: AbortSignal): Promise<void> {
  const event = target.protocol === 'tls' ? 'secureConnect' : 'connect';
  return step(target, socket, signal, (resolve) => socket.once(event, resolve));
}

async function write(target: Target, socket: Socket, batch: Buffer, signal: AbortSignal): Promise<void> {
  for (let start = 0; start < batch.length; start += PIECE_BYTES) {
    await step(target, socket, signal, (resolve) => {
      // Comes when the kernel has taken all of it. An error comes by its event too.
      socket.write(batch.subarray(start, start + PIECE_BYTES), (error) => {
        if (!error) resolve();
      });
    });
  }
}

/** Waits for one step of the socket. Whatever goes wrong ends the connection: half a message may be on its way. */
async function step(
  target: Target,
  socket: Socket,
  signal: AbortSignal,
  begin: (resolve: () => void) => void,
): Promise<void> {
  let cleanUp = (): void => undefined;
  try {
    // What happened between two steps nobody was told.
    signal.throwIfAborted();
    if (!usable(socket)) throw new SendError('unreachable', `${where(target)} closed the connection`);
    await new Promise<void>((resolve, reject) => {
      const onError = (error: Error): void => reject(failure(target, error));
      const onClose = (): void => reject(new SendError('unreachable', `${where(target)} closed the connection`));
      const onAbort = (): void => reject(signal.reason);
      const timer = setTimeout(() => {
        reject(new SendError('timeout', `${where(target)} took nothing for ${target.timeoutMillis} ms`));
      }, target.timeoutMillis);
      cleanUp = () => {
        clearTimeout(timer);
        socket.off('error', onError).off('close', onClose).off('end', onClose);
        signal.removeEventListener('abort', onAbort);
      };
      socket.on('error', onError).on('close', onClose).on('end', onClose);
      signal.addEventListener('abort', onAbort, { once: true });
      begin(resolve);
    });
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    cleanUp();
  }
}

/** What was written is sent first, for a second at most. */
function end(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.destroy(), 1000);
    socket.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    socket.end();
  });
}

function framed(target: Target, items: readonly Item[]): Buffer {
  const messages = items.flatMap(({ json }) => {
    const message = Buffer.from(toMessage(target, parse(json), json));
    // No message has a newline in it.
    if (target.framing === 'newline') return [message, NEWLINE];
    return [Buffer.from(`${message.length} `), message];
  });
  return Buffer.concat(messages);
}

const NEWLINE = Buffer.from('\n');

function usable(socket: Socket): boolean {
  return !socket.destroyed && !socket.readableEnded && socket.writable;
}

async function readCa({ protocol, caFile }: Target): Promise<Buffer | undefined> {
  if (protocol !== 'tls' || caFile === undefined) return undefined;
  try {
    return await readFile(caFile);
  } catch (error) {
    throw new SendError('tls', `can't read sinks.syslog.caFile ${caFile}: ${messageOf(error)}`, error);
  }
}

function datagrams(target: Target): Destination {
  let socket: DatagramSocket | undefined;
  let family = 0;

  function socketFor(wanted: number): DatagramSocket {
    if (socket !== undefined && family === wanted) return socket;
    socket?.close();
    family = wanted;
    socket = createSocket(wanted === 6 ? 'udp6' : 'udp4');
    // Errors of a send come by its callback.
    socket.on('error', () => undefined);
    return socket;
  }

  async function sendOne(item: Item, address: string, current: DatagramSocket): Promise<Outcome> {
    const message = toDatagram(target, item.json);
    if (message === undefined) {
      return {
        is: 'rejected',
        reason: `longer than a datagram of ${MAX_DATAGRAM_BYTES} bytes, also without its payload`,
      };
    }
    const error = await new Promise<Error | null>((resolve) => {
      current.send(message, target.port, address, resolve);
    });
    if (!error) return { is: 'delivered' };
    if (errorCode(error) === 'EMSGSIZE') return { is: 'rejected', reason: 'longer than the network takes (EMSGSIZE)' };
    return { is: 'retry', reason: failure(target, error).message };
  }

  return {
    async send(items, signal) {
      signal.throwIfAborted();
      const resolved = await lookup(target.host).catch((error: unknown) => {
        throw failure(target, error);
      });
      const current = socketFor(resolved.family);
      const outcomes: Outcome[] = [];
      // One after the other, so that no burst overruns the kernel's buffer.
      for (const item of items) {
        signal.throwIfAborted();
        outcomes.push(await sendOne(item, resolved.address, current));
      }
      return outcomes;
    },
    close: () =>
      new Promise((resolve) => {
        if (socket === undefined) return resolve();
        socket.close(resolve);
        socket = undefined;
      }),
  };
}

function toDatagram(target: Target, json: string): Buffer | undefined {
  const event = parse(json);
  const whole = Buffer.from(toMessage(target, event, json));
  if (whole.length <= MAX_DATAGRAM_BYTES) return whole;
  const record = isRecord(event.record) ? { ...event.record } : {};
  delete record.payload;
  const shorter = JSON.stringify({ ...event, record: { ...record, payload_truncated: true } });
  const message = Buffer.from(toMessage(target, event, shorter));
  return message.length <= MAX_DATAGRAM_BYTES ? message : undefined;
}

function toMessage(target: Target, event: Record<string, unknown>, json: string): string {
  const priority = FACILITY[target.facility] * 8 + severityOf(Number(event.severity));
  const header = `<${priority}>1 ${timestampOf(event)} ${hostnameOf(event.host)} dpi-agent ${process.pid} ee_event`;
  return `${header} ${saidIn(target, json)}`;
}

/** Structured data and message. */
function saidIn({ format, about = NOBODY }: Target, json: string): string {
  switch (format) {
    case 'cef':
      return `- ${toCef(toAlert(json, about))}`;
    case 'leef':
      return `- ${toLeef(toAlert(json, about))}`;
    default:
      return `[origin software="dpi-agent"] ${json}`;
  }
}

const NOBODY: About = { cluster: '' };

function severityOf(severity: number): number {
  if (severity >= 100) return 1;
  if (severity >= 80) return 2;
  if (severity >= 60) return 3;
  if (severity >= 40) return 4;
  return severity >= 20 ? 5 : 6;
}

function timestampOf(event: Record<string, unknown>): string {
  const timestamp = isRecord(event.record) ? event.record.timestamp : undefined;
  // RFC 5424 takes RFC 3339 with at most six digits of a second.
  if (typeof timestamp === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/.test(timestamp))
    return timestamp;
  const time = new Date(Number(event.time) * 1000);
  return Number.isNaN(time.getTime()) || time.getUTCFullYear() > 9999 ? '-' : time.toISOString();
}

/** PRINTUSASCII, at most 255 characters; `-` stands for none. */
function hostnameOf(host: unknown): string {
  return (typeof host === 'string' ? host.replace(/[^\u0021-\u007E]/g, '').slice(0, 255) : '') || '-';
}

function parse(json: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(json);
    return isRecord(value) ? value : {};
  } catch {
    return {};
  }
}

/** Errors of the system have a `syscall`; those of TLS have not, but for a protocol that isn't TLS. */
function failure(target: Target, error: unknown): SendError {
  const code = errorCode(error);
  const isSystem = isNativeError(error) && 'syscall' in error && code !== 'EPROTO';
  const message = `${where(target)}: ${opensslWords(messageOf(error))}`;
  if (target.protocol !== 'tls' || isSystem) return new SendError('unreachable', message, error);
  return new SendError('tls', `${message} (is sinks.syslog.caFile the authority of its certificate?)`, error);
}

function where({ protocol, address }: Target): string {
  return `the syslog collector at ${address} (${protocol})`;
}
