/** SSH through the shunt: hand-made packets. */
import { expect, test } from '@jest/globals';
import { clearPacket, SSH_NEWKEYS } from './starts.ts';
import { converse, createHarness, noise, streamsOf, type Conversation, type Side } from './support.ts';

const CLIENT_VERSION = Buffer.from('SSH-2.0-OpenSSH_9.2\r\n');
const SERVER_VERSION = Buffer.from('SSH-2.0-dropbear\r\n');
function negotiated({ messages = [20, 30, SSH_NEWKEYS], sizes = [60_000] } = {}): Conversation {
  const conversation = converse();
  conversation.send('server', SERVER_VERSION);
  conversation.send('client', CLIENT_VERSION);
  const clear = (length: number): Buffer =>
    Buffer.concat(messages.map((message) => clearPacket(message, message * length)));
  conversation.send('client', clear(20), sizes);
  conversation.send('server', clear(21), sizes);
  return conversation;
}

/** Bytes missing at a stream's end, of `sent`; fails when others are. */
function missing({ frames }: Conversation, side: Side, firstBytes = 1000): number {
  const original = streamsOf(frames)[side];
  const kept = streamsOf(createHarness({ firstBytes }).pass(frames))[side];
  expect(kept.equals(original.subarray(0, kept.length))).toBe(true);
  return original.length - kept.length;
}

test.each([[[60_000]], [[1]], [[7, 100, 3]]])('what follows NEWKEYS is shunted, segments of %j', (sizes) => {
  const conversation = negotiated({ sizes });
  for (let index = 0; index < 5; index++) conversation.send('server', noise(600, index + 1));
  conversation.send('client', noise(900));
  expect(missing(conversation, 'server')).toBe(1800);
  expect(missing(conversation, 'client')).toBe(0);
});

test('with the packets in one segment with NEWKEYS counted', () => {
  const conversation = negotiated({ messages: [20, 30] });
  conversation.send('client', Buffer.concat([clearPacket(SSH_NEWKEYS, 4), noise(2000)]));
  conversation.send('server', clearPacket(SSH_NEWKEYS, 4));
  conversation.send('client', noise(700));
  expect(missing(conversation, 'client')).toBe(700);
});

test('gaps and late segments of ciphertext are shunted too', () => {
  const conversation = negotiated();
  conversation.send('server', noise(2000));
  conversation.deliver('server', noise(9000, 3), [
    [0, 1000],
    [5000, 9000],
    [1000, 3000],
    [0, 9000],
    [3000, 5000],
  ]);
  expect(missing(conversation, 'server')).toBe(9000);
});

test.each<[string, Conversation]>([
  [
    'NEWKEYS of one side',
    (() => {
      const conversation = negotiated({ messages: [20, 30] });
      conversation.send('server', clearPacket(SSH_NEWKEYS, 4));
      return conversation;
    })(),
  ],
  ['a message of the connection protocol in clear text', negotiated({ messages: [20, 90, SSH_NEWKEYS] })],
  [
    'one version line',
    (() => {
      const conversation = converse();
      conversation.send('server', SERVER_VERSION);
      conversation.send('client', Buffer.concat([clearPacket(20, 30), clearPacket(SSH_NEWKEYS, 4)]));
      conversation.send('server', Buffer.concat([clearPacket(20, 30), clearPacket(SSH_NEWKEYS, 4)]));
      return conversation;
    })(),
  ],
])('with %s all is forwarded', (_, conversation) => {
  for (let index = 0; index < 5; index++) conversation.send('server', noise(600, index + 1));
  expect(missing(conversation, 'server')).toBe(0);
});

test('text behind the handshake (the cipher "none") is forwarded', () => {
  const conversation = negotiated();
  conversation.send('server', noise(1200));
  for (let index = 0; index < 5; index++) conversation.send('server', Buffer.from('text '.repeat(100)));
  expect(missing(conversation, 'server')).toBe(0);
});
