import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's top folder, from test/support/ as well as from dist/test/support/. */
export const PROJECT = ((): string => {
  for (let path = dirname(fileURLToPath(import.meta.url)); ; path = dirname(path)) {
    if (existsSync(join(path, 'package-lock.json'))) return path;
    if (path === '/') throw new Error('the top folder of the project was not found');
  }
})();
