/** Certificates for tests, made by openssl. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Certificate {
  /** PEM, both. */
  key: string;
  certificate: string;
}

export interface Authority {
  /** PEM. */
  pem: string;
  /** Path of the same. */
  file: string;
  /** @param name A host; 127.0.0.1 is in it too, unless `loopback` is false. `expired`: it ended in 2020. */
  issue(name: string, options?: { expired?: boolean; loopback?: boolean }): Certificate;
}

/** @param directory Made, and the caller's to remove. */
export function createAuthority(directory: string): Authority {
  mkdirSync(directory, { recursive: true });
  const at = (name: string): string => join(directory, name);
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...newKey,
    '-keyout',
    'ca.key',
    '-out',
    'ca.crt',
    '-subj',
    '/CN=test authority',
    '-days',
    '3650',
  );
  let issued = 0;

  return {
    pem: readFileSync(at('ca.crt'), 'utf8'),
    file: at('ca.crt'),
    issue(name, { expired = false, loopback = true } = {}) {
      const id = `issued-${issued++}`;
      openssl('req', ...newKey, '-keyout', `${id}.key`, '-out', `${id}.csr`, '-subj', `/CN=${name}`);
      writeFileSync(at(`${id}.txt`), '');
      // Only `openssl ca` sets dates of the past in OpenSSL 3.0.
      writeFileSync(
        at(`${id}.cnf`),
        [
          '[ca]\ndefault_ca = own',
          `[own]\ndatabase = ${id}.txt\nnew_certs_dir = .\nrand_serial = yes\ndefault_md = sha256\npolicy = any\nx509_extensions = server`,
          '[any]\ncommonName = supplied',
          `[server]\nsubjectAltName = DNS:${name}${loopback ? ',IP:127.0.0.1' : ''}\nextendedKeyUsage = serverAuth`,
        ].join('\n'),
      );
      const dates = expired ? ['-startdate', '20190101000000Z', '-enddate', '20200101000000Z'] : ['-days', '365'];
      const signer = ['-cert', 'ca.crt', '-keyfile', 'ca.key', '-notext', '-batch'];
      openssl('ca', '-config', `${id}.cnf`, ...signer, ...dates, '-in', `${id}.csr`, '-out', `${id}.crt`);
      return { key: readFileSync(at(`${id}.key`), 'utf8'), certificate: readFileSync(at(`${id}.crt`), 'utf8') };
    },
  };
}
