/**
 * What an http sink reads from files, which may change while the agent runs: address, secrets, certificates, template.
 */
import { X509Certificate } from 'node:crypto';
import type { HttpSettings } from '../../config/sinks.ts';
import { SendError } from '../destination.ts';
import { readAuthorities, readText, watchFiles, type SecretFile, type WatchedFiles } from '../secret-files.ts';

export interface Secrets {
  url: string;
  token?: string;
  password?: string;
  /** Of the signature. */
  hmac?: string;
  /** PEM, all three. */
  ca?: string;
  certificate?: string;
  key?: string;
  template?: string;
}

type Paths = Pick<
  HttpSettings,
  | 'url'
  | 'urlFile'
  | 'secretFile'
  | 'passwordFile'
  | 'hmacFile'
  | 'caFile'
  | 'certFile'
  | 'keyFile'
  | 'template'
  | 'templateFile'
>;

export function watchSecrets(settings: Paths, now?: () => number): WatchedFiles<Secrets> {
  const { urlFile, secretFile, passwordFile, hmacFile, caFile, certFile, keyFile, templateFile } = settings;
  const of = (failure: SecretFile['failure'], ...paths: (string | undefined)[]): SecretFile[] =>
    paths.flatMap((path) => (path === undefined ? [] : [{ path, failure }]));
  const files = [
    ...of('unauthorized', urlFile, secretFile, passwordFile, hmacFile),
    ...of('tls', caFile, certFile, keyFile),
    ...of('server_error', templateFile),
  ];
  return watchFiles(files, () => load(settings), now);
}

async function load(settings: Paths): Promise<Secrets> {
  const { url, urlFile, secretFile, passwordFile, hmacFile, caFile, certFile, keyFile, templateFile } = settings;
  return {
    url: urlFile === undefined ? (url ?? '') : await readUrl(urlFile),
    ...(secretFile === undefined ? {} : { token: await readToken(secretFile) }),
    ...(passwordFile === undefined ? {} : { password: await readText(passwordFile, 'unauthorized') }),
    ...(hmacFile === undefined ? {} : { hmac: await readText(hmacFile, 'unauthorized') }),
    ...(caFile === undefined ? {} : { ca: await readAuthorities(caFile) }),
    ...(certFile === undefined ? {} : { certificate: await readCertificate(certFile) }),
    ...(keyFile === undefined ? {} : { key: await readText(keyFile, 'tls') }),
    ...templateOf(templateFile === undefined ? settings.template : await readText(templateFile, 'server_error')),
  };
}

function templateOf(template: string | undefined): { template?: string } {
  return template === undefined ? {} : { template };
}

async function readUrl(path: string): Promise<string> {
  const text = (await readText(path, 'unauthorized')).trim();
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new SendError('unauthorized', `${path} holds no URL with http or https, without user and password`);
  }
  return text;
}

/** It is the value of a header. */
async function readToken(path: string): Promise<string> {
  const token = await readText(path, 'unauthorized');
  if (!/^[\x20-\x7e]+$/.test(token)) throw new SendError('unauthorized', `${path} holds no token of printable ASCII`);
  return token;
}

async function readCertificate(path: string): Promise<string> {
  const pem = await readText(path, 'tls');
  try {
    void new X509Certificate(pem);
  } catch {
    throw new SendError('tls', `${path} holds no certificate in PEM`);
  }
  return pem;
}

/** Takes what is secret out of texts that people get to see. */
export function createMask({ url, token, password, hmac }: Secrets): (text: string) => string {
  const { pathname, searchParams } = new URL(url);
  // Of paths, what is no word.
  const steps = pathname.split('/').filter((step) => step.length >= 16);
  const parts = [token, password, hmac, ...steps, ...searchParams.values()].flatMap((part) =>
    part === undefined || part === '' ? [] : [part, decoded(part), encodeURIComponent(part)],
  );
  const forms = parts.toSorted((a, b) => b.length - a.length);
  return (text) => forms.reduce((rest, form) => rest.replaceAll(form, '***'), text);
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
