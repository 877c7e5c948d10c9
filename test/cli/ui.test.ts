/** How `dpi-agent ui` starts, and when it does not. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { passwordLine } from '../../agent/ui/passwords.ts';
import { createAuthority, type Authority } from '../support/certificates.ts';
import { runCli } from '../support/cli.ts';
import { startUi, type TestUi } from '../support/ui.ts';

let directory: string;
let authority: Authority;
let users: string;
let flags: string[];
/** Writes a certificate and its key, and gives the flags that name them. */
function certificateFlags(name: string, { certificate, key }: { certificate: string; key: string }): string[] {
  const [cert, keyFile] = [join(directory, `${name}.crt`), join(directory, `${name}.key`)];
  writeFileSync(cert, certificate);
  writeFileSync(keyFile, key);
  return ['--ui.tlsCertFile', cert, '--ui.tlsKeyFile', keyFile];
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'dpi-ui-cli-'));
  authority = createAuthority(join(directory, 'authority'));
  users = join(directory, 'users');
  writeFileSync(users, `${await passwordLine('anna', 'correct horse battery')}\n`);
  const journal = join(directory, 'journal');
  mkdirSync(journal);
  flags = ['--journal.directory', journal, '--stateDirectory', directory];
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('it does not start', () => {
  const refused = async (...more: string[]): Promise<string> => {
    const { code, stdout, stderr } = await runCli(['ui', '--port', '0', ...flags, ...more]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    return stderr;
  };

  test.each(['0.0.0.0', '::', '192.0.2.1'])(
    'on %s without access control, and says what to choose from',
    async (address) => {
      expect(await refused('--address', address)).toContain(
        `the Alerts page would be open on ${address} to everybody: choose who may see it with --access kubernetes, or ui.passwordFile`,
      );
      expect(await refused('--address', address, '--access', 'none')).toContain('to everybody');
    },
  );

  test('with passwords, but in the clear', async () => {
    expect(await refused('--address', '0.0.0.0', '--ui.passwordFile', users)).toContain(
      'without TLS, and passwords would cross the network in the clear: set ui.tlsCertFile and ui.tlsKeyFile',
    );
  });

  test('behind a proxy that has no name', async () => {
    const behind = ['--ui.passwordFile', users, '--ui.behindTlsProxy', 'true'];
    expect(await refused('--address', '0.0.0.0', ...behind)).toContain('name the proxies in ui.trustedProxies');
    expect(await refused(...behind, '--ui.trustedProxies', '10.0.0.0/0')).toContain(
      'ui.trustedProxies[0]: "10.0.0.0/0": expected a list of IP addresses and networks (10.0.0.0/8)',
    );
  });

  test('with a password file that is not there, is empty, or holds a password as it is', async () => {
    expect(await refused('--access', 'password')).toContain('there is no ui.passwordFile');
    expect(await refused('--ui.passwordFile', join(directory, 'none'))).toContain(join(directory, 'none'));
    const plain = join(directory, 'plain');
    writeFileSync(plain, 'anna:correct horse battery\n');
    const said = await refused('--ui.passwordFile', plain);
    expect(said).toContain(`${plain}:1`);
    expect(said).not.toContain('correct horse');
  });

  test('with half a certificate, one that is none, or a key of another', async () => {
    const one = authority.issue('localhost');
    const [, cert = '', , key = ''] = certificateFlags('one', one);
    expect(await refused('--ui.tlsCertFile', cert)).toContain('expected both tlsCertFile and tlsKeyFile');
    expect(await refused('--ui.tlsCertFile', cert, '--ui.tlsKeyFile', join(directory, 'none'))).toContain(
      `can't read ${join(directory, 'none')}: ENOENT`,
    );
    expect(await refused('--ui.tlsCertFile', key, '--ui.tlsKeyFile', key)).toContain(
      `${key}: expected a certificate in PEM`,
    );
    expect(await refused('--ui.tlsCertFile', cert, '--ui.tlsKeyFile', cert)).toContain(
      `${cert}: expected a private key in PEM`,
    );
    const other = certificateFlags('other', { certificate: one.certificate, key: authority.issue('localhost').key });
    expect(await refused(...other)).toContain('the key is not that of the certificate in');
  });

  test('for Elasticsearch without an address', async () => {
    expect(await refused('--source', 'elasticsearch')).toContain(
      'no sink is Elasticsearch or OpenSearch: name one in sinks',
    );
  });

  test('where the port is taken', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const { code, stderr } = await runCli(['ui', ...flags, '--port', String(port)]);
    server.close();
    expect(stderr).toContain(`127.0.0.1:${port}: the port is taken: choose another with --port`);
    expect(code).toBe(1);
  });
});

describe('over TLS', () => {
  let ui: TestUi;
  let files: string[];

  beforeAll(async () => {
    files = certificateFlags('page', authority.issue('localhost'));
    ui = await startUi(...flags, '--address', '0.0.0.0', '--ui.passwordFile', users, ...files);
  });
  afterAll(() => ui?.stop());

  interface Answer {
    status: number;
    headers: NodeJS.Dict<string | string[]>;
    text: string;
    protocol: string;
  }
  const ask = (path: string, options: object = {}, body?: string): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const url = new URL(path, ui.url.replace('0.0.0.0', '127.0.0.1'));
      const asked = request(url, { ca: authority.pem, agent: false, ...options }, (answer) => {
        const protocol = (answer.socket as { getProtocol?(): string }).getProtocol?.() ?? '';
        let text = '';
        answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text, protocol }));
      });
      asked.on('error', reject);
      asked.end(body);
    });

  test('it answers with its certificate, and only the cookie of a password opens it', async () => {
    expect(await ask('/health')).toMatchObject({ status: 200, protocol: 'TLSv1.3' });
    expect((await ask('/api/alerts')).status).toBe(401);
    const signedIn = await ask(
      '/api/session',
      { method: 'POST', headers: { 'content-type': 'application/json' } },
      JSON.stringify({ username: 'anna', password: 'correct horse battery' }),
    );
    expect(signedIn.status).toBe(200);
    expect(signedIn.headers['strict-transport-security']).toBe('max-age=31536000');
    const [cookie = ''] = signedIn.headers['set-cookie'] ?? [];
    expect(cookie).toMatch(/^__Host-dpi-agent=[^;]+; Path=\/; HttpOnly; SameSite=Strict; Secure$/);
    const { status, text } = await ask('/api/alerts', { headers: { cookie: cookie.split(';')[0] } });
    expect({ status, text }).toEqual({ status: 200, text: '{"rows":[]}' });
  });

  test('TLS 1.1 is refused', async () => {
    await expect(
      ask('/health', { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }),
    ).rejects.toThrow(/protocol version|alert|unsupported/i);
  });

  test('an expired certificate is said in the log', async () => {
    const expired = certificateFlags('expired', authority.issue('localhost', { expired: true }));
    const other = await startUi(...flags, ...expired, '--access', 'none');
    await other.stop();
    expect(other.log.join('\n')).toContain('the certificate has expired');
  });
});

test('a file that is moved over the password file is taken', async () => {
  const file = join(directory, 'moved');
  writeFileSync(file, `${await passwordLine('anna', 'correct horse battery')}\n`);
  const ui = await startUi(...flags, '--ui.passwordFile', file);
  const signIn = async (username: string, password: string): Promise<number> => {
    const answer = await fetch(`${ui.url}api/session`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ username, password }),
    });
    await answer.text();
    return answer.status;
  };
  try {
    expect(await signIn('anna', 'correct horse battery')).toBe(200);
    writeFileSync(`${file}.new`, `${await passwordLine('berta', 'another long password')}\n`);
    renameSync(`${file}.new`, file);
    expect(await signIn('anna', 'correct horse battery')).toBe(401);
    expect(await signIn('berta', 'another long password')).toBe(200);
  } finally {
    await ui.stop();
  }
});
