/** Which protocol a flow speaks: by what its bytes are, whatever the port. */
import type { AppFacts } from '../../events/app.ts';
import type { Attempt, Parser } from './attempt.ts';
import type { Conversation } from './conversation.ts';
import { dnsFacts, isDns } from './dns.ts';
import { ftpFacts, isFtp } from './ftp.ts';
import { exchangeAt, httpFacts, isRequest, isResponse, readExchanges } from './http.ts';
import { isHttp2, readHttp2 } from './http2.ts';
import type { Run } from './pieces.ts';
import { isQuic, quicFacts } from './quic.ts';
import { isSmtp, smtpFacts } from './smtp.ts';
import { isSsh, sshFacts } from './ssh.ts';
import { tlsFacts } from './tls.ts';
import { isTls } from './tls-records.ts';

/** What all readers get. */
interface Asked {
  conversation: Conversation;
  /** The first contiguous bytes of each side. */
  client: Run | undefined;
  server: Run | undefined;
  /** Microseconds since 1970, of the alert. */
  time: number | undefined;
  attempt: Attempt;
}

interface Reader {
  parser: Parser;
  /** @param client The first bytes; empty where there are none. */
  is: (client: Buffer, server: Buffer, asked: Asked) => boolean;
  read: (asked: Asked) => AppFacts | undefined;
}

const READERS: readonly Reader[] = [
  // Before HTTP/1, whose first line its preface looks like.
  {
    parser: 'http2',
    is: isHttp2,
    read: ({ client, server, time, attempt }) => readHttp2(client, server, time, attempt),
  },
  { parser: 'http', is: (client, server) => isRequest(client) || isResponse(server), read: readHttp },
  {
    parser: 'tls',
    is: (client, server) => isTls(client) || isTls(server),
    read: ({ client, server, attempt }) => ({ protocol: 'tls', tls: tlsFacts(client, server, attempt) }),
  },
  {
    parser: 'quic',
    is: (_client, _server, { conversation }) => isQuic(conversation),
    read({ conversation }) {
      const tls = quicFacts(conversation);
      return tls === undefined ? undefined : { protocol: 'quic', tls };
    },
  },
  { parser: 'dns', is: (_client, _server, { conversation }) => isDns(conversation), read: readDns },
  {
    parser: 'ssh',
    is: (client, server) => isSsh(client) || isSsh(server),
    read: ({ client, server }) => ({ protocol: 'ssh', ssh: sshFacts(client, server) }),
  },
  { parser: 'smtp', is: isSmtp, read: readSmtp },
  {
    parser: 'ftp',
    is: isFtp,
    read: ({ client, server }) => ({ protocol: 'ftp', ftp: ftpFacts(client, server) }),
  },
];

export function readApp(conversation: Conversation, time: number | undefined, attempt: Attempt): AppFacts | undefined {
  const asked: Asked = {
    conversation,
    client: conversation.client.runs[0],
    server: conversation.server.runs[0],
    time,
    attempt,
  };
  const client = asked.client?.bytes ?? Buffer.alloc(0);
  const server = asked.server?.bytes ?? Buffer.alloc(0);
  const reader = READERS.find(({ is, parser }) => attempt(parser, () => is(client, server, asked)) === true);
  return reader === undefined ? undefined : attempt(reader.parser, () => reader.read(asked));
}

function readHttp({ conversation, time, attempt }: Asked): AppFacts | undefined {
  const exchange = exchangeAt(readExchanges(conversation), time);
  if (exchange === undefined) return undefined;
  const http = httpFacts(exchange, attempt);
  return { protocol: http.upgrade === 'websocket' ? 'websocket' : 'http', http };
}

function readDns({ conversation, time, attempt }: Asked): AppFacts | undefined {
  const dns = dnsFacts(conversation, time, attempt);
  return dns === undefined ? undefined : { protocol: 'dns', dns };
}

function readSmtp({ client, server, attempt }: Asked): AppFacts {
  const [encrypted, answered] = [client, server].map(behindStartTls);
  return {
    protocol: 'smtp',
    smtp: smtpFacts(client, server),
    ...(encrypted === undefined && answered === undefined
      ? {}
      : { tls: attempt('tls', () => tlsFacts(encrypted, answered, attempt)) ?? {} }),
  };
}

/** The records of TLS that follow lines of text (RFC 3207). */
function behindStartTls(run: Run | undefined): Run | undefined {
  const at = run?.bytes.indexOf(Buffer.from([0x0d, 0x0a, 0x16, 0x03])) ?? -1;
  if (run === undefined || at < 0) return undefined;
  return { offset: run.offset + at + 2, bytes: run.bytes.subarray(at + 2), marks: run.marks };
}
