import { describe, expect, test } from '@jest/globals';
import { attribute, mayBeSeenTwice, type Owners } from '../../agent/alerts/attribute.ts';
import type { AttributedAlert } from '../../agent/alerts/attributed.ts';
import type { Endpoint } from '../../agent/endpoints/endpoint.ts';
import { openLeases } from '../../agent/endpoints/leases.ts';
import type { Alert } from '../../agent/engine/alert.ts';
import { endpointOf, engineAlert } from '../support/attributed.ts';

const NOW = 1_700_000_000_000_000;
const SENSOR = { engine: { name: 'snort', version: '3.12.2.0' }, node: 'node-1' };

const endpoint = (name: string, addresses: string[], resources = ['default/dpi']): Endpoint =>
  endpointOf(name, { id: `default/${name}`, nameAggr: `${name}-*`, addresses, resources });

const alert = (vlan: number, source: string, destination: string, timeMicros = NOW): Alert =>
  engineAlert({ timeMicros, vlan, source: { ip: source, port: 1000 }, destination: { ip: destination, port: 80 } });

/** Leases of these endpoints: the first one's id is 1, and so on. */
function leased(...endpoints: Endpoint[]): Owners {
  const leases = openLeases(undefined, () => NOW);
  for (const one of endpoints) leases.acquire(one);
  return leases;
}

function only(attributed: AttributedAlert[]): AttributedAlert {
  expect(attributed).toHaveLength(1);
  return attributed[0] as AttributedAlert;
}

describe('attribute', () => {
  const client = endpoint('client', ['10.0.0.1', 'fd00::1']);
  const server = endpoint('server', ['10.0.0.2']);

  test.each([
    ['127.0.0.1', '127.0.0.53'],
    ['::1', '::1'],
  ])('both ends of what passes a loopback that is captured are the pod: %s', (source, destination) => {
    const taps = [{ interface: 'cali-client' }, { interface: 'lo', netns: '/proc/1/ns/net' }];
    const seen = { ...client, taps };
    const of = (owners: Owners): AttributedAlert =>
      only(attribute(alert(1, source, destination), { generation: 'g', offset: 1 }, owners, SENSOR));
    expect(of(leased(seen, server))).toMatchObject({ source: seen, destination: seen });
    expect(of(leased(client, server))).not.toHaveProperty('source');
  });

  test('names the endpoint that holds the id, its resource, the position and the sensor', () => {
    const one = alert(2, '10.0.0.1', '10.0.0.2');
    expect(attribute(one, { generation: 'g', offset: 17 }, leased(client, server), SENSOR)).toEqual([
      {
        alert: one,
        position: { generation: 'g', offset: 17 },
        mergedPositions: [],
        resource: 'default/dpi',
        seenAt: [server],
        source: client,
        destination: server,
        ...SENSOR,
      },
    ]);
  });

  test('gives none for an id that nobody holds', () => {
    for (const vlan of [0, 3, 4094]) {
      expect(
        attribute(alert(vlan, '10.0.0.1', '10.0.0.2'), { generation: 'g', offset: 0 }, leased(client, server), SENSOR),
      ).toEqual([]);
    }
  });

  test('gives one for each resource that selects the endpoint, in its order', () => {
    const owners = leased(endpoint('client', [], ['default/two', 'default/one']));
    const attributed = attribute(alert(1, '10.0.0.1', '10.0.0.2'), { generation: 'g', offset: 0 }, owners, SENSOR);
    expect(attributed.map(({ resource }) => resource)).toEqual(['default/two', 'default/one']);
  });

  test('knows any address of an endpoint, and leaves out the peer that is nobody’s', () => {
    const attributed = only(
      attribute(alert(1, 'fd00::1', 'fd00::2'), { generation: 'g', offset: 0 }, leased(client, server), SENSOR),
    );
    expect(attributed.source).toBe(client);
    expect('destination' in attributed).toBe(false);
  });

  test('an address that two endpoints have belongs to the one that saw the packet', () => {
    const [red, blue] = [endpoint('red', ['10.0.0.9']), endpoint('blue', ['10.0.0.9'])];
    const owners = leased(red, blue);
    expect(
      only(attribute(alert(1, '10.0.0.9', '10.0.0.2'), { generation: 'g', offset: 0 }, owners, SENSOR)).source,
    ).toBe(red);
    expect(
      only(attribute(alert(2, '10.0.0.9', '10.0.0.2'), { generation: 'g', offset: 0 }, owners, SENSOR)).source,
    ).toBe(blue);
  });

  test('an address that two other endpoints have is nobody’s', () => {
    const owners = leased(server, endpoint('red', ['10.0.0.9']), endpoint('blue', ['10.0.0.9']));
    const attributed = only(
      attribute(alert(1, '10.0.0.9', '10.0.0.2'), { generation: 'g', offset: 0 }, owners, SENSOR),
    );
    expect('source' in attributed).toBe(false);
    expect(attributed.destination).toBe(server);
  });

  test('asks who held the id when the packet came by, not who holds it now', () => {
    let now = NOW;
    const leases = openLeases(undefined, () => now);
    for (let id = 1; id <= 4093; id++) leases.acquire(endpoint(`e${id}`, []));
    now += 60e6;
    leases.free('default/e7');
    now += 60e6;
    expect(leases.acquire(endpoint('late', []))).toBe(7);
    const seenBy = (time: number) =>
      attribute(alert(7, '1.1.1.1', '2.2.2.2', time), { generation: 'g', offset: 0 }, leases, SENSOR)[0]?.seenAt[0]
        ?.name;
    expect(seenBy(NOW + 30e6)).toBe('e7');
    expect(seenBy(NOW + 90e6)).toBeUndefined();
    expect(seenBy(NOW + 121e6)).toBe('late');
  });
});

describe('mayBeSeenTwice', () => {
  const seenByClient = (...others: Endpoint[]): boolean => {
    const owners = leased(endpoint('client', ['10.0.0.1']), ...others);
    const attributed = only(
      attribute(alert(1, '10.0.0.1', '10.0.0.2'), { generation: 'g', offset: 0 }, owners, SENSOR),
    );
    return mayBeSeenTwice(attributed, owners);
  };

  test.each([
    ['nobody else is there', [], false],
    ['the other end is an endpoint of the same resource', [endpoint('server', ['10.0.0.2'])], true],
    [
      'the other end is inspected for another resource only',
      [endpoint('server', ['10.0.0.2'], ['default/other'])],
      false,
    ],
    ['another endpoint has neither address', [endpoint('server', ['10.0.0.3'])], false],
    ['another endpoint’s addresses are not known', [endpoint('server', [])], true],
    ['another endpoint has the same address, at the same end', [endpoint('twin', ['10.0.0.1'])], false],
  ])('when %s', (_what, others, expected) => {
    expect(seenByClient(...others)).toBe(expected);
  });

  test('not once both saw it', () => {
    const [client, server] = [endpoint('client', ['10.0.0.1']), endpoint('server', ['10.0.0.2'])];
    const owners = leased(client, server);
    const attributed = only(
      attribute(alert(1, '10.0.0.1', '10.0.0.2'), { generation: 'g', offset: 0 }, owners, SENSOR),
    );
    expect(mayBeSeenTwice({ ...attributed, seenAt: [client, server] }, owners)).toBe(false);
  });
});

test('an alert goes to the resources that ask for its signature, by the rule sets that they name', () => {
  const both = { ...endpoint('a', [], ['default/one', 'default/two']), ruleSets: { 'default/one': ['mine'] } };
  const owners = leased(both);
  const asking = (asks: (named: readonly string[] | undefined) => boolean): string[] =>
    attribute(alert(1, '10.0.0.1', '10.0.0.2'), { generation: 'g', offset: 0 }, owners, SENSOR, asks).map(
      ({ resource }) => resource,
    );
  expect(asking((named) => named?.includes('mine') === true)).toEqual(['default/one']);
  expect(asking((named) => named === undefined)).toEqual(['default/two']);
  expect(asking(() => false)).toEqual([]);
});
