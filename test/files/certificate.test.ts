/** A certificate that is replaced while the page is served. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, createServer, type Server } from 'node:tls';
import { readCertificate, renewCertificate } from '../../agent/files/certificate.ts';
import { createAuthority, type Authority, type Certificate } from '../support/certificates.ts';
import { poll } from '../support/poll.ts';

let directory: string;
let authority: Authority;
let server: Server;
let endRenewal: () => void;
let said: string[];
const files = () => ({ cert: join(directory, 'tls.crt'), key: join(directory, 'tls.key') });

/** As the kubelet replaces the files of a Secret: both at once, by a link. */
function put(name: string, { certificate, key }: Certificate): void {
  const folder = join(directory, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'tls.crt'), certificate);
  writeFileSync(join(folder, 'tls.key'), key);
  symlinkSync(name, join(directory, '..data.new'));
  renameSync(join(directory, '..data.new'), join(directory, '..data'));
}

/** The name in the certificate that a new connection gets. */
function served(): Promise<string> {
  return new Promise((resolve, reject) => {
    const { port } = server.address() as AddressInfo;
    const socket = connect({ port, host: '127.0.0.1', ca: authority.pem, checkServerIdentity: () => undefined }, () => {
      resolve(String(socket.getPeerCertificate().subject.CN));
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'dpi-certificate-'));
  authority = createAuthority(join(directory, 'authority'));
  put('one', authority.issue('one.example'));
  for (const name of ['tls.crt', 'tls.key']) symlinkSync(join('..data', name), join(directory, name));
  const { cert, key } = await readCertificate(files());
  server = createServer({ cert, key });
  // Clients here leave at once.
  server.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  said = [];
  const say = (...words: unknown[]): void => void said.push(words.map((word) => JSON.stringify(word)).join(' '));
  endRenewal = renewCertificate(server, files(), { info: say, warn: say } as never, 20);
});
afterEach(() => {
  endRenewal();
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

test('new connections get the new one', async () => {
  expect(await served()).toBe('one.example');
  put('two', authority.issue('two.example'));
  await poll(async () => (await served()) === 'two.example');
  expect(said.join('\n')).toContain('the certificate was replaced');
});

test('one that can’t be used is said, and the one before stays; what comes then is taken', async () => {
  const [two, three] = [authority.issue('two.example'), authority.issue('three.example')];
  put('wrong', { certificate: two.certificate, key: three.key });
  await poll(() => said.join('\n').includes('the certificate is not renewed'));
  expect(await served()).toBe('one.example');
  put('three', three);
  await poll(async () => (await served()) === 'three.example');
});
