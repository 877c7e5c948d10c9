import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { calicoInterface } from '../../../agent/endpoints/resolve/calico-name.ts';
import {
  canonical,
  parseArp,
  parseDefaultRoutes,
  parseDevices,
  parseForwarding,
  parseIgmp,
  parseInet6,
  parseLocalAddresses,
  parsePodUid,
  parseRoutes,
  parseRoutes6,
  parseStartTime,
} from '../../../agent/endpoints/resolve/kernel.ts';
import { printable } from '../../../agent/endpoints/resolve/resolver.ts';

// Recorded on Linux 6.18, shortened.
const ROUTE = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0101A8C0	0003	0	0	0	00000000	0	0	0
veth0	0000000A	00000000	0001	0	0	0	00FFFFFF	0	0	0
veth0	0700000A	00000000	0005	0	0	0	FFFFFFFF	0	0	0
*	0800000A	00000000	0005	0	0	0	FFFFFFFF	0	0	0
lo	0B00000A	00000000	0205	0	0	0	FFFFFFFF	0	0	0
veth0	0900000A	0500000A	0007	0	0	0	FFFFFFFF	0	0	0
veth1	0700000A	00000000	0005	0	0	32	FFFFFFFF	0	0	0
`;

const ZEROS = '0'.repeat(32);
const ROUTE6 = `fd000000000000000000000000000001 80 ${ZEROS} 00 ${ZEROS} 00000400 00000002 00000000 00000001    veth0
fd000000000000000000000000000002 80 ${ZEROS} 00 ${ZEROS} 00000400 00000001 00000000 00200200       lo
fd000000000000000000000000000000 40 ${ZEROS} 00 ${ZEROS} 00000100 00000001 00000000 00000001    veth0
fd000000000000000000000000000003 80 ${ZEROS} 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003    veth0
fd000000000000000000000000000004 80 ${ZEROS} 00 ${ZEROS} 00000000 00000002 00000000 80200001    veth0
${ZEROS} 00 ${ZEROS} 00 ${ZEROS} ffffffff 00000001 00000000 00200200       lo
`;

const ARP = `IP address       HW type     Flags       HW address            Mask     Device
10.1.0.5         0x1         0x2         02:42:0a:01:00:05     *        cni0
10.1.0.6         0x1         0x0         00:00:00:00:00:00     *        cni0
10.1.0.7         0x1         0x6         02:42:0a:01:00:07     *        br-1
10.1.0.8         0x20        0x2         02:42:0a:01:00:08     *        ib0
`;

const FIB_TRIE = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
Local:
  +-- 10.0.0.0/24 2 0 2
     |-- 10.0.0.0
        /24 link UNICAST
        /32 host LOCAL
     |-- 10.0.0.5
        /32 host LOCAL
     |-- 10.0.0.255
        /32 link BROADCAST
  +-- 127.0.0.0/8 2 0 2
     |-- 127.0.0.1
        /32 host LOCAL
`;

const UID = '0f1a2b3c-1111-4222-8333-0123456789ab';
const OTHER = 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee';

describe('routes', () => {
  test('of which the default ones lead to these interfaces', () => {
    expect(parseDefaultRoutes(ROUTE)).toEqual(['eth0']);
    const routes = [
      '*	00000000	00000000	0005	0	0	0	00000000	0	0	0',
      'eth1	00000000	0101A8C0	0203	0	0	0	00000000	0	0	0',
      'eth2	00000000	0101A8C0	0003	0	0	9	00000000	0	0	0',
      'eth3	00000000	0101A8C0	0003	0	0	0	000000FF	0	0	0',
    ];
    expect(parseDefaultRoutes(routes.join('\n'))).toEqual(['eth2']);
  });

  test('only directly attached single addresses count, in the byte order of the machine', () => {
    expect(parseRoutes(ROUTE, 'LE')).toEqual([
      { address: '10.0.0.7', device: 'veth0' },
      { address: '10.0.0.7', device: 'veth1' },
    ]);
    expect(parseRoutes('eth0\t0A000007\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0', 'BE')).toEqual([
      { address: '10.0.0.7', device: 'eth0' },
    ]);
  });

  test('of IPv6 neither networks, gateways, rejects nor own addresses count', () => {
    expect(parseRoutes6(ROUTE6)).toEqual([{ address: 'fd00::1', device: 'veth0' }]);
  });
});

describe('neighbours and bridges', () => {
  test('only complete Ethernet neighbours count', () => {
    expect(parseArp(ARP)).toEqual([
      { address: '10.1.0.5', mac: '02:42:0a:01:00:05', device: 'cni0' },
      { address: '10.1.0.7', mac: '02:42:0a:01:00:07', device: 'br-1' },
    ]);
  });

  test("learned addresses have their port's number in two bytes, the bridge's own are left out", () => {
    const entry = (mac: string, low: number, high: number, own = 0) =>
      Buffer.concat([Buffer.from(mac, 'hex'), Buffer.from([low, own, 9, 0, 0, 0, high, 0, 0, 0])]);
    const table = Buffer.concat([
      entry('02420a010005', 3, 1),
      entry('02420a010006', 4, 0, 1),
      entry('02420a010007', 5, 0),
      entry('02420a010007', 6, 0),
      entry('02420a010007', 6, 0),
      Buffer.from([1, 2, 3]),
    ]);
    expect([...parseForwarding(table)]).toEqual([
      ['02:42:0a:01:00:05', [259]],
      ['02:42:0a:01:00:07', [5, 6]],
    ]);
  });
});

describe("a namespace's addresses and interfaces", () => {
  test('IPv4 addresses of its own are those of type LOCAL', () => {
    expect([...parseLocalAddresses(FIB_TRIE)]).toEqual(['10.0.0.0', '10.0.0.5', '127.0.0.1']);
  });

  test('IPv6 addresses come with the index in hexadecimal and the name', () => {
    expect(parseInet6('fd000000000000000000000000000004 0a 80 00 80     eth0\n')).toEqual([
      { address: 'fd00::4', ifindex: 10, device: 'eth0' },
    ]);
  });

  test('indices are read with the names, also with those that fill their column', () => {
    const text =
      'Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n12\tcali0123456789a:     1      V3\n';
    expect([...parseIgmp(text)]).toEqual([
      ['lo', 1],
      ['cali0123456789a', 12],
    ]);
  });

  test('the two lines of headings name no interface', () => {
    const text =
      'Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes\n    lo:       0       0\ncali0123456789a:123 4\n';
    expect(parseDevices(text)).toEqual(['lo', 'cali0123456789a']);
  });
});

describe("a process's pod", () => {
  const systemd = UID.replaceAll('-', '_');
  test.each([
    [
      'cgroupfs, v1',
      `9:name=systemd:/kubepods/burstable/pod${UID}/0123abcd\n8:pids:/kubepods/burstable/pod${UID}/0123abcd`,
    ],
    ['cgroupfs, guaranteed', `0::/kubepods/pod${UID}/0123abcd`],
    [
      'systemd',
      `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${systemd}.slice/cri-containerd-0123.scope`,
    ],
    ['systemd, guaranteed', `0::/kubepods.slice/kubepods-pod${systemd}.slice/crio-0123.scope`],
    [
      'systemd path without the driver',
      `1:cpu:/system.slice/containerd.service/kubepods-besteffort-pod${systemd}.slice:cri-containerd:0123`,
    ],
    ['from a cgroup namespace', `0::/../../pod${UID}/0123abcd`],
    ['from a cgroup namespace, systemd', `0::/../../kubepods-besteffort-pod${systemd}.slice/cri-containerd-0123.scope`],
    ['kind', `0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${systemd}.slice/cri-containerd-0.scope`],
    ['only some hierarchies of v1', `4:memory:/kubepods/pod${UID}\n0::/`],
    ["a pod's own cgroup with another pod's name", `0::/kubepods/pod${UID}/0123/pod${OTHER}/x`],
  ])('is known from its cgroup: %s', (_, text) => {
    expect(parsePodUid(text)).toBe(UID);
  });

  test.each([
    ['none', '0::/user.slice/user-0.slice'],
    ['another word before it', `0::/kubepods/notpod${UID}`],
    ['longer', `0::/kubepods/pod${UID}0`],
    ['hierarchies that differ', `2:cpu:/kubepods/pod${UID}\n1:pids:/kubepods/pod${OTHER}`],
    ['empty', ''],
  ])('is not known: %s', (_, text) => {
    expect(parsePodUid(text)).toBeUndefined();
  });

  test("a process's name can't shift the time of its start", () => {
    const rest = `S ${Array.from({ length: 18 }, () => '0').join(' ')} 4711 99`;
    expect(parseStartTime(`12 (sh) ${rest}`)).toBe(4711);
    expect(parseStartTime(`12 (x) 1 2 3) ${rest}`)).toBe(4711);
    expect(parseStartTime('12 (sh)')).toBeUndefined();
  });
});

test("Calico's name is that of the hash of namespace and pod", () => {
  // printf default.backend | sha1sum
  expect(calicoInterface('default', 'backend')).toBe('cali1e9261921dc');
});

test('addresses have one form, and what is none has none', () => {
  expect(canonical('FD00:0:0::0005')).toBe('fd00::5');
  expect(canonical('10.0.0.5')).toBe('10.0.0.5');
  for (const address of ['', '10.0.0', 'fd00::/64', 'x', ':']) expect(canonical(address)).toBeUndefined();
});

test('a name from the kernel has no control characters in a message', () => {
  expect(printable('\u001B[31mé')).toBe('?[31m?');
});

test('no text makes a parser throw', () => {
  const hostile = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc
      .array(fc.constantFrom(...(ROUTE + ROUTE6 + ARP + FIB_TRIE).split(/(\s)/), 'pod', UID, '0::/'), {
        maxLength: 200,
      })
      .map((words) => words.join('')),
  );
  fc.assert(
    fc.property(hostile, (text) => {
      for (const parse of [
        parseDefaultRoutes,
        parseRoutes,
        parseRoutes6,
        parseArp,
        parseInet6,
        parseLocalAddresses,
        parseIgmp,
        parseDevices,
        parsePodUid,
        parseStartTime,
        (bytes: string) => parseForwarding(Buffer.from(bytes)),
      ])
        parse(text);
    }),
    { numRuns: 50 },
  );
});

test('long hostile lines are parsed in time proportional to their length', () => {
  for (const unit of [
    'pod',
    '/pod',
    '-pod',
    '0 ',
    'a'.repeat(32),
    ' ',
    '\t',
    '0::/',
    'x:',
    '|-- ',
    `pod${'0'.repeat(8)}-0000`,
  ]) {
    const text = unit.repeat(300_000 / unit.length);
    for (const parse of [
      parseDefaultRoutes,
      parseRoutes,
      parseRoutes6,
      parseArp,
      parseInet6,
      parseLocalAddresses,
      parseIgmp,
      parseDevices,
      parsePodUid,
    ])
      parse(text);
  }
});
