import { readFileSync } from 'node:fs';

let known: string | undefined;

/** This package's version. */
export function version(): string {
  return (known ??= readVersion());
}

function readVersion(): string {
  // From dist/agent/cli/ as well as from agent/cli/.
  for (const up of ['../../../package.json', '../../package.json']) {
    try {
      const { name, version: found } = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as {
        name?: string;
        version?: string;
      };
      if (name === 'dpi-agent' && found !== undefined) return found;
    } catch {
      // Not there: the other place.
    }
  }
  return 'unknown';
}
