/**
 * Where rule sets come from by themselves: what `ruleSources` of the configuration says, as updates take it.
 *
 * The secret of a source is read from its file at each use, and is in nothing that is returned but `secret`.
 */
import { readFile, stat } from 'node:fs/promises';
import type { EngineInstall } from '../engine/engine.ts';
import { errorCode } from '../files/errors.ts';
import { SECRET_PLACE, UpdateError, type FetchOptions } from './fetch.ts';

export const COMMUNITY_URL = 'https://www.snort.org/downloads/community/snort3-community-rules.tar.gz';
const VERSION_PLACE = '{version}';
const MAX_SECRET_BYTES = 1024;
/** Shorter ones can't be told from other text, and so not be kept out of it. */
const SECRET = /^[\x21-\x7e]{8,}$/;

export type PresetName = 'snort3-community' | 'snort3-registered' | 'snort3-subscriber' | 'et-open' | 'et-pro';

interface Preset {
  /** With the places of version and secret. */
  url: string;
  /** Of the rules, where the engine's does not say. */
  version: string;
}

const SNORT_SNAPSHOT: Preset = {
  url: `https://www.snort.org/rules/snortrules-snapshot-${VERSION_PLACE}.tar.gz?oinkcode=${SECRET_PLACE}`,
  version: '31470',
};

/** As the publishers give them. Registered users and subscribers of Snort's ask for the same file, by another code. */
const PRESETS: Record<PresetName, Preset> = {
  'snort3-community': { url: COMMUNITY_URL, version: '' },
  'snort3-registered': SNORT_SNAPSHOT,
  'snort3-subscriber': SNORT_SNAPSHOT,
  'et-open': {
    url: `https://rules.emergingthreats.net/open/suricata-${VERSION_PLACE}/emerging.rules.tar.gz`,
    version: '7.0.3',
  },
  'et-pro': {
    url: `https://rules.emergingthreatspro.com/${SECRET_PLACE}/suricata-${VERSION_PLACE}/etpro.rules.tar.gz`,
    version: '7.0.3',
  },
};

/** An entry of `ruleSources`. */
export interface RuleSource {
  name: string;
  set?: string | undefined;
  url?: string | undefined;
  file?: string | undefined;
  preset?: PresetName | undefined;
  mirror?: string | undefined;
  version?: string | undefined;
  /** Milliseconds. */
  every: number;
  checksum?: string | undefined;
  secretFile?: string | undefined;
  secretHeader: string;
  proxy?: string | undefined;
  caFile?: string | undefined;
  maxBytes: number;
  /** Milliseconds. */
  timeout: number;
}

/** What an update of it is to be given. */
export type SourceRequest = Omit<FetchOptions, 'userAgent' | 'onProgress'> & { set: string; timeoutMillis: number };

export const setOf = ({ name, set }: Pick<RuleSource, 'name' | 'set'>): string => set ?? name;

/**
 * @param install The engine, whose version is in the path of some. @throws UpdateError that names the secret's file.
 */
export async function requestOf(
  source: RuleSource,
  install: Pick<EngineInstall, 'name' | 'version'> | undefined,
): Promise<SourceRequest> {
  const { checksum, secretFile, secretHeader, proxy, caFile, maxBytes, timeout } = source;
  return {
    set: setOf(source),
    from: addressOf(source, install),
    ...(checksum === undefined ? {} : { checksum }),
    ...(secretFile === undefined ? {} : { secret: { value: await readSecret(secretFile), header: secretHeader } }),
    ...(proxy === undefined ? {} : { proxy }),
    ...(caFile === undefined ? {} : { caFile }),
    maxBytes,
    timeoutMillis: timeout,
  };
}

/** With the place of the secret, but not the secret. */
function addressOf(source: RuleSource, install: Pick<EngineInstall, 'name' | 'version'> | undefined): string {
  const { url, file, preset, mirror, version } = source;
  if (file !== undefined) return file;
  const known = preset === undefined ? undefined : PRESETS[preset];
  const engineVersion = install?.name === 'suricata' ? /^\d+\.\d+\.\d+/.exec(install.version)?.[0] : undefined;
  const ofEngine = preset === undefined || preset.startsWith('et-') ? engineVersion : undefined;
  const address = url ?? known?.url ?? '';
  const at = mirror === undefined ? address : address.replace(/^https:\/\/[^/]+/, () => mirror.replace(/\/+$/, ''));
  return at.replaceAll(VERSION_PLACE, version ?? ofEngine ?? known?.version ?? '');
}

/** @throws UpdateError that names the file. */
export async function readSecret(file: string, maxBytes = MAX_SECRET_BYTES): Promise<string> {
  let text: string;
  try {
    const { size } = await stat(file);
    if (size > maxBytes) throw new UpdateError(`${file}: is larger than ${maxBytes} bytes`);
    text = (await readFile(file, 'utf8')).trim();
  } catch (error) {
    if (error instanceof UpdateError) throw error;
    throw new UpdateError(`cannot read the secret in ${file}: ${errorCode(error) ?? 'unknown'}`);
  }
  if (text.length > maxBytes || !SECRET.test(text))
    throw new UpdateError(`${file}: expected a secret of 8 to ${maxBytes} characters without blanks`);
  return text;
}
