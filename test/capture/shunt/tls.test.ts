/** TLS through the shunt: hand-made records, one rule a test. */
import { describe, expect, test } from '@jest/globals';
import {
  alertRecord,
  CHANGE_CIPHER_SPEC,
  CLIENT_HELLO,
  converse,
  createHarness,
  dataRecord,
  expectOnlyDataMissing,
  heartbeatRecord,
  noise,
  record,
  recordsOf,
  segmentOf,
  serverHello,
  shaken,
  streamsOf,
  type Conversation,
  type Looked,
} from './support.ts';

/** What becomes of the frames that `more` adds to a conversation, behind those that it has. */
function after(conversation: Conversation, more: () => void, firstBytes = 1000): Looked[] {
  const { look } = createHarness({ firstBytes });
  conversation.frames.forEach((frame) => look(frame));
  const from = conversation.frames.length;
  more();
  return conversation.frames.slice(from).map((frame) => look(frame));
}

const verdicts = (looked: Looked[]): string[] => looked.map(({ verdict }) => verdict);
const types = (looked: Looked | undefined): number[] =>
  looked?.frame === undefined ? [] : recordsOf(segmentOf(looked.frame).payload).map(({ type }) => type);

/** All that a connection's streams lost, in bytes; fails when that is more than records of type 23. */
function missing({ frames }: Conversation, firstBytes = 1000): { client: number; server: number } {
  const kept = streamsOf(createHarness({ firstBytes }).pass(frames));
  const original = streamsOf(frames);
  return {
    client: expectOnlyDataMissing(original.client, kept.client),
    server: expectOnlyDataMissing(original.server, kept.server),
  };
}

describe('application data', () => {
  test('is shunted after the first bytes of its direction', () => {
    const conversation = shaken();
    const looked = after(conversation, () => {
      conversation.send('server', dataRecord(1000));
      conversation.send('server', dataRecord(1001));
      conversation.send('client', dataRecord(1002));
      conversation.send('client', dataRecord(1003));
    });
    // Each is followed by its acknowledgement.
    expect(verdicts(looked)).toEqual([
      'forward',
      'forward',
      'shunted',
      'shunted',
      'forward',
      'forward',
      'shunted',
      'shunted',
    ]);
    expect(looked[2]).toMatchObject({ protocol: 'tls', bytes: 54 + 1006 });
    expect(missing(conversation)).toEqual({ server: 1006, client: 1008 });
  });

  test('is forwarded up to firstBytes, in whole records', () => {
    const conversation = shaken();
    for (let index = 0; index < 10; index++) conversation.send('server', dataRecord(400 + index));
    // 400, 401 and 402 are the first thousand.
    expect(missing(conversation).server).toBe([403, 404, 405, 406, 407, 408, 409].reduce((a, b) => a + b + 5, 0));
  });

  test('of TLS 1.2 is shunted once both sides changed to their keys', () => {
    const conversation = shaken({ version13: false });
    conversation.send('server', dataRecord(2000));
    conversation.send('server', dataRecord(2001));
    expect(missing(conversation).server).toBe(2006);

    const half = converse();
    half.send('client', CLIENT_HELLO);
    half.send('server', serverHello({ version13: false }));
    half.send('server', CHANGE_CIPHER_SPEC);
    for (let index = 0; index < 4; index++) half.send('server', dataRecord(2000 + index));
    expect(missing(half).server).toBe(0);
  });

  test('is forwarded without a ServerHello', () => {
    const conversation = converse();
    conversation.send('client', CLIENT_HELLO);
    for (let index = 0; index < 4; index++) conversation.send('server', dataRecord(2000 + index));
    for (let index = 0; index < 4; index++) conversation.send('client', dataRecord(2000 + index));
    expect(missing(conversation)).toEqual({ client: 0, server: 0 });
  });

  test('is forwarded where a server that speaks another protocol is made to repeat a ServerHello', () => {
    const conversation = converse();
    conversation.send('client', CLIENT_HELLO);
    conversation.send('server', Buffer.from('+OK\r\n'));
    conversation.send('client', Buffer.from('GET hello\r\n'));
    conversation.send('server', serverHello());
    for (let index = 0; index < 4; index++) conversation.send('client', dataRecord(2000 + index));
    for (let index = 0; index < 4; index++) conversation.send('server', dataRecord(2000 + index));
    expect(missing(conversation)).toEqual({ client: 0, server: 0 });
  });

  test.each([0x0002, 0x003b, 0xc006, 0xc0b4])('of a suite without encryption (%p) is forwarded', (suite) => {
    const conversation = converse();
    conversation.send('client', CLIENT_HELLO);
    conversation.send('server', serverHello({ suite }));
    for (let index = 0; index < 4; index++) conversation.send('server', dataRecord(2000 + index));
    expect(missing(conversation).server).toBe(0);
  });

  test('that is text is forwarded for good', () => {
    const conversation = shaken();
    conversation.send('server', dataRecord(2000));
    conversation.send('server', record(23, Buffer.from('GET /evil HTTP/1.1 '.repeat(20))));
    conversation.send('server', dataRecord(2001));
    conversation.send('client', dataRecord(2000));
    conversation.send('client', dataRecord(2001));
    expect(missing(conversation)).toEqual({ server: 0, client: 2006 });
  });

  test('that becomes text in the middle of a record is forwarded from there', () => {
    const conversation = shaken();
    conversation.send('server', dataRecord(2000));
    const disguised = record(23, Buffer.concat([noise(1000), Buffer.from('evil '.repeat(1000))]));
    const looked = after(conversation, () => conversation.send('server', disguised, [1005, 2000]));
    expect(looked.filter((_, index) => index % 2 === 0).map(({ verdict }) => verdict)).toEqual([
      'shunted',
      'forward',
      'forward',
      'forward',
    ]);
  });

  test('behind a handshake that begins later in a stream (STARTTLS) is shunted', () => {
    const conversation = converse();
    conversation.send('server', Buffer.from('220 mail ESMTP\r\n'));
    conversation.send('client', Buffer.from('STARTTLS\r\n'));
    conversation.send('server', Buffer.from('220 go ahead\r\n'));
    conversation.send('client', CLIENT_HELLO);
    conversation.send('server', serverHello());
    const looked = after(conversation, () => {
      conversation.send('server', dataRecord(2000));
      conversation.send('server', dataRecord(2001));
    });
    expect(verdicts(looked)).toEqual(['forward', 'forward', 'shunted', 'shunted']);
  });
});

describe('other records', () => {
  test.each([
    ['alert', alertRecord],
    ['heartbeat', heartbeatRecord],
    ['handshake', () => record(22, noise(300))],
    ['ChangeCipherSpec', () => CHANGE_CIPHER_SPEC],
  ])('of type %s go through, wherever they are in a frame', (_, make) => {
    const other = make();
    const type = other.readUInt8(0);
    const conversation = shaken();
    conversation.send('server', dataRecord(2000));
    const looked = after(conversation, () => {
      conversation.send('server', other);
      conversation.send('server', Buffer.concat([dataRecord(2001), other]));
      conversation.send('server', Buffer.concat([other, dataRecord(2002)]));
      conversation.send(
        'server',
        Buffer.concat([dataRecord(2003), other, dataRecord(2004), other, other, dataRecord(2005)]),
      );
    });
    const sent = looked.filter((_each, index) => index % 2 === 0);
    expect(verdicts(sent)).toEqual(['forward', 'trimmed', 'trimmed', 'trimmed']);
    expect(sent.map(types)).toEqual([[type], [type], [type], [type, type, type]]);
    expect(missing(conversation).server).toBe(2006 + 2007 + 2008 + 2009 + 2010);
  });

  test('behind a record of which the frame has the end only', () => {
    const conversation = shaken();
    conversation.send('server', dataRecord(2000));
    const looked = after(conversation, () =>
      conversation.send('server', Buffer.concat([dataRecord(9000), alertRecord()]), [4000, 4000, 6000]),
    );
    expect(verdicts(looked.filter((_, index) => index % 2 === 0))).toEqual(['shunted', 'shunted', 'trimmed']);
    expect(types(looked[4])).toEqual([21]);
  });

  test('what is no record ends the shunting', () => {
    const bodies = [
      Buffer.from([25, 3, 3, 0, 1, 0]),
      Buffer.from([23, 2, 3, 0, 1, 0]),
      Buffer.from([23, 3, 3, 0, 0]),
      Buffer.from([23, 3, 3, 0xff, 0xff]),
    ];
    for (const body of bodies) {
      const conversation = shaken();
      conversation.send('server', dataRecord(2000));
      const looked = after(conversation, () => {
        conversation.send('server', Buffer.concat([dataRecord(3000), body, dataRecord(3001)]));
        conversation.send('server', dataRecord(3002));
      });
      expect(looked[0]).toMatchObject({ verdict: 'trimmed', bytes: 3005 });
      expect(looked[2]).toMatchObject({ verdict: 'forward' });
    }
  });

  test('a record whose header and first 40 bytes two segments have goes through', () => {
    for (const cut of [1, 4, 5, 6, 44]) {
      const conversation = shaken();
      conversation.send('server', dataRecord(2000));
      conversation.send('server', dataRecord(2001), [cut, 4000]);
      conversation.send('server', dataRecord(2002));
      expect(missing(conversation).server).toBe(2007);
    }
  });
});

describe('segments', () => {
  test('that come again are judged as before, also with other boundaries', () => {
    const conversation = shaken();
    const bytes = Buffer.concat([
      dataRecord(2000),
      alertRecord(),
      dataRecord(2001),
      alertRecord(),
      dataRecord(2002),
      heartbeatRecord(),
    ]);
    conversation.deliver('server', bytes, [
      [0, 3000],
      [0, 3000],
      [1500, 2500],
      [3000, 6100],
      [10, 6000],
      [2005, 2100],
      [5000, bytes.length],
      [0, bytes.length],
    ]);
    expect(missing(conversation).server).toBe(2006 + 2007);
  });

  test('out of order inside one record lose nothing', () => {
    const conversation = shaken();
    conversation.send('server', dataRecord(2000));
    const bytes = Buffer.concat([dataRecord(9000), alertRecord(), dataRecord(9001)]);
    conversation.deliver('server', bytes, [
      [0, 1000],
      [3000, 5000],
      [1000, 3000],
      [7000, 9100],
      [5000, 7000],
      [9100, bytes.length],
    ]);
    expect(missing(conversation).server).toBe(9005 + 9006);
  });

  test('out of order over a boundary end the shunting, behind the record that was begun', () => {
    const conversation = shaken();
    conversation.send('server', dataRecord(2000));
    const bytes = Buffer.concat([dataRecord(3000), dataRecord(3001), alertRecord(), dataRecord(3002)]);
    conversation.deliver('server', bytes, [
      [0, 1000],
      [4000, bytes.length],
      [1000, 4000],
    ]);
    conversation.send('server', dataRecord(3003));
    expect(missing(conversation).server).toBe(3005);
  });

  test('that show two records of one length in a row bring it back', () => {
    const conversation = shaken();
    conversation.send('server', dataRecord(2000));
    const lost = Buffer.concat([dataRecord(3000), dataRecord(3001), dataRecord(3002)]);
    conversation.deliver('server', lost, [
      [0, 1000],
      [4000, lost.length],
      [1000, 4000],
    ]);
    const looked = after(conversation, () => {
      conversation.send('server', dataRecord(4000, 1));
      const bytes = Buffer.concat([dataRecord(3003), dataRecord(5000, 2), dataRecord(5000, 3), alertRecord()]);
      conversation.send('server', bytes, [1000, 20_000]);
      conversation.send('server', dataRecord(4001));
    });
    const sent = looked.filter((_, index) => index % 2 === 0);
    expect(verdicts(sent)).toEqual(['forward', 'forward', 'trimmed', 'shunted']);
    expect(sent[2]?.bytes).toBe(10_010);
    expect(missing(conversation).server).toBe(3005 + 10_010 + 4006);
  });

  test('with urgent data end the shunting', () => {
    const conversation = shaken();
    conversation.send('server', dataRecord(2000));
    const looked = after(conversation, () => {
      conversation.frames.push(conversation.frame('server', { flags: 'PAU', payload: dataRecord(2001) }));
      conversation.next.server += 2006;
      conversation.send('server', dataRecord(2002));
    });
    expect(verdicts(looked)).toEqual(['forward', 'forward', 'forward']);
  });

  test('that are truncated end the shunting', () => {
    const conversation = shaken();
    conversation.send('server', dataRecord(2000));
    const whole = conversation.frame('server', { payload: dataRecord(2001) });
    const looked = after(conversation, () => {
      conversation.frames.push({ ...whole, data: whole.data.subarray(0, 200), originalLength: whole.data.length });
      conversation.next.server += 2006;
      conversation.send('server', dataRecord(2002));
    });
    expect(verdicts(looked)).toEqual(['forward', 'forward', 'forward']);
  });

  test('with FIN and RST are forwarded, without the data', () => {
    const conversation = shaken();
    conversation.send('server', dataRecord(2000));
    const looked = after(conversation, () => {
      conversation.send('server', dataRecord(2001));
      conversation.frames.push(conversation.frame('server', { flags: 'FPA', payload: dataRecord(2002) }));
      conversation.next.server += 2008;
      conversation.frames.push(
        conversation.frame('client', { flags: 'FA' }),
        conversation.frame('client', { flags: 'R' }),
      );
    });
    expect(verdicts(looked.slice(2))).toEqual(['trimmed', 'forward', 'forward']);
    const [, , fin, answer] = looked.map(({ frame }) => frame && segmentOf(frame));
    expect(fin?.payload).toHaveLength(0);
    expect(fin?.flags).toBe(0x19);
    // What it acknowledges is behind the FIN, in the numbers that the engine saw.
    expect(answer?.acknowledgement).toBe((fin?.sequence ?? 0) + 1);
  });

  test.each([
    ['in the record that is taken out', [dataRecord(9000)]],
    ['in one of several records', [dataRecord(2500), dataRecord(2501), dataRecord(2502)]],
    ['in records of several types', [dataRecord(2500), alertRecord(), record(22, noise(3000))]],
  ])('a FIN that overtakes data, %s, has the number behind all that is forwarded', (_, records) => {
    const bytes = Buffer.concat(records);
    const segments = Math.ceil(bytes.length / 700);
    for (let late = 1; late <= segments; late++) {
      const conversation = shaken();
      conversation.send('server', dataRecord(2000));
      const start = conversation.next.server;
      const parts = Array.from({ length: segments }, (_each, index): [number, number] => [
        index * 700,
        Math.min(bytes.length, (index + 1) * 700),
      ]);
      const fin = conversation.frame('server', { flags: 'FA', sequence: start + bytes.length });
      conversation.deliver('server', bytes, parts);
      // Each segment is followed by its acknowledgement.
      conversation.frames.splice(-2 * late, 0, fin);
      const passed = createHarness({ firstBytes: 1000 }).pass(conversation.frames);
      const { server } = streamsOf(passed);
      expectOnlyDataMissing(streamsOf(conversation.frames).server, server);
      const first = passed.map(segmentOf).find(({ side, flags }) => side === 'server' && (flags & 2) !== 0);
      const last = passed.map(segmentOf).find(({ flags }) => (flags & 1) !== 0);
      expect(last?.sequence).toBe((first?.sequence ?? 0) + 1 + server.length);
    }
  });

  test('a new connection between the same ports is a new flow', () => {
    const first = shaken();
    first.send('server', dataRecord(2000));
    first.send('server', dataRecord(2001));
    const { pass } = createHarness({ firstBytes: 1000 });
    pass(first.frames);
    const second = shaken({ sequence: 777_000 });
    second.send('server', dataRecord(2002));
    second.send('server', dataRecord(2003));
    const kept = streamsOf(pass(second.frames));
    expect(expectOnlyDataMissing(streamsOf(second.frames).server, kept.server)).toBe(2008);
  });

  test('sequence numbers wrap around', () => {
    const conversation = shaken({ sequence: 0xffff_f000 });
    for (let index = 0; index < 20; index++)
      conversation.send('client', Buffer.concat([dataRecord(500 + index), alertRecord()]));
    expect(missing(conversation).client).toBeGreaterThan(8000);
  });

  test('many ranges between records that go through keep the stream contiguous', () => {
    const conversation = shaken();
    for (let index = 0; index < 50; index++) {
      conversation.send('server', Buffer.concat([dataRecord(1000 + index), alertRecord()]), [700]);
    }
    expect(missing(conversation).server).toBeGreaterThan(40_000);
  });
});

describe('acknowledgements', () => {
  const bulk = (): { conversation: Conversation; looked: Looked[] } => {
    const conversation = shaken();
    conversation.send('server', dataRecord(2000));
    return { conversation, looked: [] };
  };

  test('of what was taken out are shunted, those of what was forwarded are not', () => {
    const { conversation } = bulk();
    const looked = after(conversation, () =>
      conversation.send('server', Buffer.concat([dataRecord(3000), alertRecord()])),
    );
    expect(verdicts(looked)).toEqual(['trimmed', 'forward']);
    const kept = looked.map(({ frame }) => frame && segmentOf(frame));
    expect(kept[1]?.acknowledgement).toBe((kept[0]?.sequence ?? 0) + (kept[0]?.payload.length ?? 0));
  });

  test('that bulk brings along are forwarded without it', () => {
    const { conversation } = bulk();
    const looked = after(conversation, () => {
      conversation.frames.push(conversation.frame('client', { payload: dataRecord(300) }));
      conversation.next.client += 305;
      conversation.frames.push(conversation.frame('server', { payload: dataRecord(2001) }));
    });
    expect(verdicts(looked)).toEqual(['forward', 'trimmed']);
    expect(looked[1]?.frame && segmentOf(looked[1].frame)).toMatchObject({
      payload: Buffer.alloc(0),
      acknowledgement: conversation.next.client,
    });
  });

  test('that open the window are forwarded', () => {
    const { conversation } = bulk();
    const looked = after(conversation, () => {
      conversation.send('server', dataRecord(2001));
      for (const window of [65_535, 0, 2, 900]) conversation.frames.push(conversation.frame('client', { window }));
    });
    expect(verdicts(looked).slice(2)).toEqual(['shunted', 'shunted', 'shunted', 'shunted']);
    const { look } = createHarness({ firstBytes: 1000 });
    const closed = shaken();
    closed.send('server', dataRecord(2000));
    closed.send('server', dataRecord(2001));
    closed.frames.push(closed.frame('server', { payload: alertRecord() }));
    closed.next.server += 31;
    for (const window of [0, 100, 150, 500]) closed.frames.push(closed.frame('client', { window }));
    expect(verdicts(closed.frames.map((frame) => look(frame))).slice(-4)).toEqual([
      'forward',
      'forward',
      'shunted',
      'forward',
    ]);
  });

  test('of an endless download: one in 20 s is forwarded, so that the engine keeps the flow', () => {
    const { conversation } = bulk();
    const looked = after(conversation, () => {
      conversation.send('server', dataRecord(2001));
      for (let seconds = 0; seconds < 60; seconds += 5)
        conversation.frames.push(conversation.frame('client', { seconds }));
    });
    expect(verdicts(looked.slice(2)).map((verdict) => verdict === 'forward')).toEqual(
      [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55].map((seconds) => seconds === 20 || seconds === 40),
    );
  });

  test('lose their SACK ranges and keep other options', () => {
    const timestamps = Buffer.from([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    const sack = Buffer.from([1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9]);
    const { conversation } = bulk();
    const looked = after(conversation, () => {
      conversation.send('server', dataRecord(2001));
      conversation.frames.push(
        conversation.frame('client', { options: Buffer.concat([timestamps, sack]) }),
        conversation.frame('client', { options: Buffer.concat([timestamps, sack]), payload: alertRecord() }),
        conversation.frame('client', { options: Buffer.from([30, 4, 0, 0]) }),
      );
    });
    expect(verdicts(looked.slice(2))).toEqual(['shunted', 'forward', 'forward']);
    expect(looked[3]?.frame?.data.subarray(54, 78)).toEqual(Buffer.concat([timestamps, Buffer.alloc(12, 1)]));
  });
});

describe('flows', () => {
  test('of two endpoints are two, and of an endpoint that is gone are forgotten', () => {
    const conversation = shaken();
    conversation.send('server', dataRecord(2000));
    const { look, shunt } = createHarness({ firstBytes: 1000 });
    conversation.frames.forEach((frame) => look(frame, 1));
    const frame = conversation.frame('server', { payload: dataRecord(2001) });
    expect(look(frame, 2).verdict).toBe('forward');
    expect(look(frame, 1).verdict).toBe('shunted');
    shunt.forget(2);
    expect(look(frame, 1).verdict).toBe('shunted');
    shunt.forget(1);
    expect(look(frame, 1).verdict).toBe('forward');
  });

  test('are bounded; an endpoint with many displaces its own', () => {
    const { look } = createHarness({ firstBytes: 1000, flows: 16 });
    const quiet = shaken();
    quiet.send('server', dataRecord(2000));
    quiet.frames.forEach((frame) => look(frame, 1));
    for (let port = 1; port < 1000; port++) {
      const hello = quiet.frame('client', { sourcePort: 2000 + port, payload: CLIENT_HELLO });
      expect(look(hello, 2).verdict).toBe('forward');
    }
    expect(look(quiet.frame('server', { payload: dataRecord(2001) }), 1).verdict).toBe('shunted');
  });

  test('the least recent one gives way, and is forwarded as it is', () => {
    const { look } = createHarness({ firstBytes: 1000, flows: 1 });
    const conversation = shaken();
    conversation.send('server', dataRecord(2000));
    conversation.send('server', dataRecord(2001));
    expect(conversation.frames.map((frame) => look(frame)).at(-2)?.verdict).toBe('shunted');
    look(conversation.frame('client', { sourcePort: 2000, payload: CLIENT_HELLO }));
    const frame = conversation.frame('server', { payload: dataRecord(2002) });
    expect(look(frame)).toMatchObject({ verdict: 'forward', frame });
  });
});
