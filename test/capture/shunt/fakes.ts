/**
 * What begins like encryption and goes on in the clear, to a peer that knows nothing of it: one that answers in its own
 * protocol, repeats what it was told, or is made to. What follows the beginnings has the looks of ciphertext, so that
 * it is not text in its place that shows it, and a marker in it.
 */
import { DEFAULT_START_MICROS, ethernet, udpPacket, type Frame } from '../../support/packets.ts';
import {
  clearPacket,
  quicInitial,
  SSH_KEXINIT,
  SSH_NEWKEYS,
  wireguardInitiation,
  wireguardResponse,
} from './starts.ts';
import {
  betweenPorts,
  CHANGE_CIPHER_SPEC,
  CLIENT,
  CLIENT_HELLO,
  converse,
  dataRecord,
  noise,
  record,
  serverHello,
  type Side,
} from './support.ts';

export type Said = [from: Side, bytes: Buffer];

export const FAKE_MARKER = 'evil-marker';
export const SSH_VERSION = Buffer.from('SSH-2.0-x\r\n');
export const SSH_EXCHANGE = Buffer.concat([clearPacket(SSH_KEXINIT, 200), clearPacket(SSH_NEWKEYS, 4)]);
export const TLS_ANSWER = Buffer.concat([serverHello(), CHANGE_CIPHER_SPEC, dataRecord(200)]);

const client = (bytes: Buffer | string): Said => ['client', Buffer.from(bytes)];
const server = (bytes: Buffer | string): Said => ['server', Buffer.from(bytes)];

/** What comes back when all that is said is repeated, so many datagrams or segments later. */
export function echo(said: Buffer[], late = 0): Said[] {
  const turns: Said[] = [];
  for (let at = 0; at < said.length + late; at++) {
    const [told, repeated] = [said[at], said[at - late]];
    if (told !== undefined) turns.push(client(told));
    if (repeated !== undefined) turns.push(server(repeated));
  }
  return turns;
}

const ANOTHER_EXCHANGE = [clearPacket(SSH_KEXINIT, 300), clearPacket(SSH_NEWKEYS, 8)];

export const TCP_FAKES: { [name: string]: Said[] } = {
  'a web server that is told a version of SSH': [
    client(SSH_VERSION),
    client(SSH_EXCHANGE),
    server('HTTP/1.1 400 Bad Request\r\n\r\n'),
    server(SSH_EXCHANGE),
  ],
  'a web server that repeats a body of SSH': [
    client('POST /echo HTTP/1.1\r\nContent-Length: 9999\r\n\r\n'),
    client(SSH_VERSION),
    client(SSH_EXCHANGE),
    server('HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n'),
    server(SSH_VERSION),
    ...ANOTHER_EXCHANGE.map(server),
  ],
  'a store that gives SSH back': [
    client(SSH_VERSION),
    server('-ERR unknown command\r\n'),
    client(SSH_EXCHANGE),
    server('$300\r\n'),
    server(SSH_VERSION),
    ...ANOTHER_EXCHANGE.map(server),
  ],
  'a mail server that repeats a line': [
    server('220 mail.example ESMTP\r\n'),
    client(SSH_VERSION),
    server('500 5.5.2 Error: '),
    server(SSH_VERSION),
    client(SSH_EXCHANGE),
    ...ANOTHER_EXCHANGE.map(server),
  ],
  'an echo of SSH': echo([SSH_VERSION, SSH_EXCHANGE]),
  'an echo of SSH that comes late': echo([SSH_VERSION, SSH_EXCHANGE], 2),
  'an echo of SSH in one piece': echo([Buffer.concat([SSH_VERSION, SSH_EXCHANGE]), clearPacket(SSH_NEWKEYS, 8)]),
  'SSH without a key exchange': echo([SSH_VERSION, clearPacket(SSH_NEWKEYS, 4)]),
  'a web server that is told a ClientHello': [
    client(CLIENT_HELLO),
    server('HTTP/1.1 400 Bad Request\r\n\r\n'),
    server(TLS_ANSWER),
  ],
  'a store that gives TLS back': [
    client('set hello 0 0 300\r\n'),
    client(TLS_ANSWER),
    server('STORED\r\n'),
    client(CLIENT_HELLO),
    server('VALUE hello 0 300\r\n'),
    server(TLS_ANSWER),
  ],
  'an echo of TLS': echo([CLIENT_HELLO, TLS_ANSWER]),
  'an echo of TLS, said the wrong way round': echo([TLS_ANSWER, CLIENT_HELLO], 2),
  'an echo of TLS that begins anew': [
    ...echo([CLIENT_HELLO]),
    ...echo([TLS_ANSWER, Buffer.from('what is no record'), CLIENT_HELLO], 3),
  ],
  'an echo of TLS behind one of SSH': [
    ...echo([SSH_VERSION]),
    ...echo([TLS_ANSWER, Buffer.from('what is no record'), CLIENT_HELLO], 3),
  ],
};

const [ONE_ID, OTHER_ID, NO_ID] = [noise(8, 1), noise(8, 2), Buffer.alloc(0)];

export const UDP_FAKES: { [name: string]: Said[] } = {
  'a name server that is told an Initial packet': [client(quicInitial(ONE_ID, OTHER_ID)), server(noise(60))],
  'an echo of QUIC': echo([quicInitial(ONE_ID, OTHER_ID)]),
  'an echo of QUIC with one connection id for both': echo([quicInitial(ONE_ID, ONE_ID)]),
  'an echo of QUIC without connection ids': echo([quicInitial(NO_ID, NO_ID)]),
  'an echo of two connections of QUIC': echo([quicInitial(ONE_ID, OTHER_ID), quicInitial(OTHER_ID, ONE_ID)]),
  'an echo of them that comes late': echo([quicInitial(ONE_ID, OTHER_ID), quicInitial(OTHER_ID, ONE_ID)], 2),
  'an echo of WireGuard': echo([wireguardInitiation(7)]),
  'an echo of WireGuard with a response': echo([wireguardInitiation(7), wireguardResponse(7, 7)]),
  'an echo of two initiations': echo(
    [wireguardInitiation(7), wireguardInitiation(8), wireguardResponse(7, 8), wireguardResponse(8, 7)],
    4,
  ),
  'an echo that did not get the initiation': [
    client(wireguardInitiation(7)),
    ...echo([wireguardResponse(7, 7), wireguardResponse(8, 7)]),
  ],
};

const DISGUISED = [0, 1, 2, 3].map((seed) =>
  Buffer.concat([noise(700, seed), Buffer.from(FAKE_MARKER), noise(705, seed)]),
);
const CLEAR_STREAM = DISGUISED.flatMap((bytes) => [
  client(record(23, bytes)),
  server(bytes),
  server(record(23, bytes)),
  client(bytes),
]);
/** Of QUIC, a packet with a short header; of WireGuard, data to the indices that the fakes choose. */
const CLEAR_DATAGRAMS = DISGUISED.flatMap((bytes) =>
  echo(
    [[0x41], [4, 0, 0, 0, 0, 0, 0, 7], [4, 0, 0, 0, 0, 0, 0, 8]].map((head) =>
      Buffer.concat([Buffer.from(head), bytes]),
    ),
  ),
);

/** A beginning, and what goes on in the clear behind it. */
export function tcpFrames(begin: Said[], clientPort = CLIENT.sourcePort): Frame[] {
  const conversation = converse();
  for (const [side, bytes] of [...begin, ...CLEAR_STREAM]) conversation.send(side, bytes);
  return betweenPorts(conversation.frames, clientPort, 443);
}

export function udpFrames(begin: Said[], clientPort = CLIENT.sourcePort): Frame[] {
  return [...begin, ...CLEAR_DATAGRAMS].map(([side, payload]) => {
    const { source, destination, destinationPort } = CLIENT;
    const ends =
      side === 'client'
        ? { source, destination, sourcePort: clientPort, destinationPort }
        : { source: destination, destination: source, sourcePort: destinationPort, destinationPort: clientPort };
    return { timeMicros: DEFAULT_START_MICROS, data: ethernet(udpPacket({ ...ends, payload })) };
  });
}
