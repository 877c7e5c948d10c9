/**
 * What Suricata says of the application beside an alert. None of it is needed: what has another form than expected is
 * left out.
 */
import { isRecord } from '../../files/record.ts';
import type { Alert, EngineFile, SmbFacts } from '../alert.ts';
import { text } from './values.ts';

const MAX_FILES = 8;

export function factsOf(event: Record<string, unknown>): Pick<Alert, 'files' | 'smb'> {
  const files = filesOf(event['files']);
  const smb = isRecord(event['smb']) ? smbOf(event['smb']) : {};
  return {
    ...(files.length === 0 ? {} : { files }),
    ...(Object.keys(smb).length === 0 ? {} : { smb }),
  };
}

function filesOf(value: unknown): EngineFile[] {
  if (!Array.isArray(value)) return [];
  return value
    .slice(0, MAX_FILES)
    .filter(isRecord)
    .map((file) => {
      const { size } = file;
      return {
        ...texts(file, { filename: 'name', magic: 'type', state: 'state' }),
        ...(typeof size === 'number' && Number.isSafeInteger(size) && size >= 0 ? { size } : {}),
        ...texts(file, { md5: 'md5', sha1: 'sha1', sha256: 'sha256' }, /^[\da-f]{32,64}$/i),
      };
    })
    .filter((file) => Object.keys(file).length > 0);
}

function smbOf(smb: Record<string, unknown>): SmbFacts {
  return texts(smb, {
    command: 'command',
    dialect: 'dialect',
    status: 'status',
    share: 'share',
    filename: 'filename',
    named_pipe: 'named_pipe',
    disposition: 'disposition',
  });
}

/** @param names What is taken, and as what. */
function texts<Name extends string>(
  from: Record<string, unknown>,
  names: Readonly<Record<string, Name>>,
  form?: RegExp,
): Partial<Record<Name, string>> {
  const found: Partial<Record<Name, string>> = {};
  for (const [key, name] of Object.entries(names)) {
    const value = from[key];
    if (typeof value === 'string' && value !== '' && form?.test(value) !== false) found[name] = text(value);
  }
  return found;
}
