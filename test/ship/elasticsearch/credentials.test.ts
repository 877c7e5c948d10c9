import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createCredentialFiles } from '../../../agent/ship/elasticsearch/credentials.ts';
import { createAuthority } from '../../support/certificates.ts';

let directory = '';
let clock = 0;
const now = (): number => clock;
const write = (name: string, text: string): string => {
  writeFileSync(join(directory, name), text);
  return join(directory, name);
};

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dpi-credentials-'));
  clock = 0;
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test('without files there are no credentials', async () => {
  expect(await createCredentialFiles({}).read()).toEqual({});
});

test('an API key is taken encoded or as id and key, without the newline at its end', async () => {
  const plain = createCredentialFiles({ apiKeyFile: write('plain', 'id:key\n') });
  const encoded = createCredentialFiles({ apiKeyFile: write('encoded', 'aWQ6a2V5\r\n') });
  expect(await plain.read()).toEqual({ auth: { apiKey: 'aWQ6a2V5' } });
  expect(await encoded.read()).toEqual({ auth: { apiKey: 'aWQ6a2V5' } });
});

test('user and password are from files; a blank at the end of a password is a part of it', async () => {
  const passwordFile = write('password', 'se cret \n');
  const usernameFile = write('user', 'agent\n');
  expect(await createCredentialFiles({ username: 'me', passwordFile }).read()).toEqual({
    auth: { username: 'me', password: 'se cret ' },
  });
  expect(await createCredentialFiles({ usernameFile, passwordFile }).read()).toEqual({
    auth: { username: 'agent', password: 'se cret ' },
  });
});

test('files are looked at each second, and at once after forget', async () => {
  const files = createCredentialFiles({ username: 'me', passwordFile: write('password', 'one') }, now);
  const first = await files.read();
  write('password', 'second');
  expect(await files.read()).toBe(first);
  clock = 1000;
  expect(await files.read()).toMatchObject({ auth: { password: 'second' } });
  write('password', 'third');
  files.forget();
  expect(await files.read()).toMatchObject({ auth: { password: 'third' } });
});

test('what is read again and is the same is the same object', async () => {
  const files = createCredentialFiles({ username: 'me', passwordFile: write('password', 'one') }, now);
  const first = await files.read();
  write('password', 'one');
  files.forget();
  expect(await files.read()).toBe(first);
});

test('a folder whose link Kubernetes swaps is followed', async () => {
  for (const name of ['one', 'two']) {
    mkdirSync(join(directory, name));
    write(`${name}/key`, name);
  }
  symlinkSync('one', join(directory, 'data'));
  const files = createCredentialFiles({ apiKeyFile: join(directory, 'data/key') }, now);
  expect(await files.read()).toEqual({ auth: { apiKey: 'one' } });
  symlinkSync('two', join(directory, 'next'));
  renameSync(join(directory, 'next'), join(directory, 'data'));
  clock = 1000;
  expect(await files.read()).toEqual({ auth: { apiKey: 'two' } });
});

test.each([
  ['missing', undefined, 'ENOENT'],
  ['empty', '\n', 'is empty'],
  ['with a space', 'my secret', 'holds no API key'],
  ['with two lines', 'my\nsecret', 'holds no API key'],
])('an API key file that is %s is named, and not shown', async (_, text, why) => {
  const path = join(directory, 'key');
  if (text !== undefined) write('key', text);
  const error: unknown = await createCredentialFiles({ apiKeyFile: path })
    .read()
    .catch((cause: unknown) => cause);
  expect(error).toMatchObject({ failure: 'unauthorized', message: expect.stringContaining(path) });
  expect(error).toMatchObject({ message: expect.stringContaining(why) });
  expect(String(error)).not.toContain('secret');
});

test.each([
  ['is a folder', undefined, 'no file'],
  ['holds no certificate', 'nothing', 'no certificate'],
  ['holds a broken one', '-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n', "can't be read"],
])('a file of authorities that %s is named', async (_, text, why) => {
  const path = join(directory, 'ca');
  if (text === undefined) mkdirSync(path);
  else write('ca', text);
  await expect(createCredentialFiles({ caFile: path }).read()).rejects.toMatchObject({
    failure: 'tls',
    message: expect.stringMatching(new RegExp(`${path}.*${why}`)),
  });
});

test('authorities are read as they are', async () => {
  const { file, pem } = createAuthority(join(directory, 'authority'));
  expect(await createCredentialFiles({ caFile: file }).read()).toEqual({ ca: pem.trimEnd() });
});
