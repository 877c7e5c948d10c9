import { describe, expect, test } from '@jest/globals';
import type { AttributedAlert, Peer } from '../../agent/alerts/attributed.ts';
import { createNamer, type Names } from '../../agent/alerts/name.ts';
import { attributedAlert } from '../support/attributed.ts';

const peer = (name: string): Peer => ({ namespace: 'shop', name, nameAggr: `${name}-*` });

function alert(source: string, known?: Peer): AttributedAlert {
  return attributedAlert(
    { source: { ip: source }, destination: { ip: '10.0.0.1' } },
    { destination: peer('backend'), ...(known === undefined ? {} : { source: known }) },
  );
}

/** Answers when told to. */
function scripted(): Names & { asked: string[][]; answer(address: string, name?: string): void } {
  const waiting = new Map<string, (names: ReadonlyMap<string, Peer>) => void>();
  const asked: string[][] = [];
  return {
    asked,
    resolve(addresses) {
      asked.push(addresses);
      return new Promise((resolve) => waiting.set(addresses[0] ?? '', resolve));
    },
    answer(address, name) {
      waiting.get(address)?.(new Map(name === undefined ? [] : [[address, peer(name)]]));
    },
  };
}

async function collect(batches: AsyncIterable<AttributedAlert[]>): Promise<(string | undefined)[][]> {
  const names: (string | undefined)[][] = [];
  for await (const batch of batches) names.push(batch.map(({ source }) => source?.name));
  return names;
}

describe('names of remote ends', () => {
  test('an alert gets the name that was asked for when it was read', async () => {
    const names = scripted();
    const namer = createNamer(names);
    const one = alert('10.0.0.9');
    namer.expect(one);
    names.answer('10.0.0.9', 'attacker');
    expect(await collect(namer.name([one]))).toEqual([['attacker']]);
    expect(names.asked).toEqual([['10.0.0.9']]);
  });

  test('copies of an alert for several resources ask once', async () => {
    const names = scripted();
    const namer = createNamer(names);
    const one = alert('10.0.0.9');
    const copy = { ...one, resource: 'shop/other' };
    namer.expect(one);
    namer.expect(copy);
    names.answer('10.0.0.9', 'attacker');
    expect(await collect(namer.name([one, copy]))).toEqual([['attacker', 'attacker']]);
    expect(names.asked).toHaveLength(1);
  });

  test('nobody is asked for the names of endpoints', async () => {
    const names = scripted();
    const namer = createNamer(names);
    const one = alert('10.0.0.9', peer('known'));
    namer.expect(one);
    expect(await collect(namer.name([one]))).toEqual([['known']]);
    expect(names.asked).toEqual([]);
  });

  test('those before one that waits are given on, those behind it keep their place', async () => {
    const names = scripted();
    const namer = createNamer(names);
    const alerts = ['10.0.0.7', '10.0.0.8', '10.0.0.9'].map((address) => alert(address));
    for (const one of alerts) namer.expect(one);
    names.answer('10.0.0.7', 'first');
    names.answer('10.0.0.9', 'third');
    await Promise.resolve();
    const batches = namer.name(alerts)[Symbol.asyncIterator]();
    expect((await batches.next()).value).toHaveLength(1);
    const rest = batches.next();
    names.answer('10.0.0.8');
    expect((await rest).value?.map(({ source }: AttributedAlert) => source?.name)).toEqual([undefined, 'third']);
  });

  test('without anybody to ask, alerts pass as they are', async () => {
    const namer = createNamer(undefined);
    const one = alert('10.0.0.9');
    namer.expect(one);
    expect(await collect(namer.name([one]))).toEqual([[undefined]]);
  });

  test('the limit is handed on, so that no answer takes longer', async () => {
    let given = 0;
    const namer = createNamer({
      resolve: (_, millis) => {
        given = millis;
        return Promise.resolve(new Map());
      },
    });
    namer.expect(alert('10.0.0.9'));
    expect(given).toBe(200);
  });
});
