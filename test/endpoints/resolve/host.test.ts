/** Devices as /sys shows them; folders take its place where the kernel has no such device to make. */
import { afterAll, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readDevice } from '../../../agent/endpoints/resolve/host.ts';

const folder = mkdtempSync(join(tmpdir(), 'dpi-sys-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** @param speed Absent: it can't be read. */
function device(name: string, flags: string, speed?: string): ReturnType<typeof readDevice> {
  mkdirSync(join(folder, name));
  const files = { uevent: `INTERFACE=${name}\nIFINDEX=7\n`, iflink: '3\n', type: '1\n', flags: `${flags}\n` };
  for (const [file, text] of Object.entries({ ...files, ...(speed === undefined ? {} : { speed }) }))
    writeFileSync(join(folder, name, file), text);
  return readDevice(folder, name);
}

test('what looks like a veth but has no speed is a netkit, once it is up', () => {
  const veth = { ifindex: 7, iflink: 3, kind: 'veth', what: 'a veth' };
  expect(device('veth', '0x1003', '10000\n')).toEqual({ name: 'veth', ...veth });
  expect(device('netkit', '0x1083')).toEqual({ name: 'netkit', ...veth, what: 'a netkit', netkit: true });
  expect(device('down', '0x1002')).toEqual({ name: 'down', ...veth });
});
