/** Tests in a real Chromium. Where there is none, they are skipped with one line that says so. */
import { describe } from '@jest/globals';
import { findChromium } from './chromium.ts';

export { openBrowser, type TestBrowser } from './chromium.ts';

/** `describe`, or `describe.skip` and one line on standard error. `body` only declares tests and hooks. */
export function describeBrowser(body: () => void): void {
  if (findChromium() !== undefined) {
    describe('Chromium', body);
    return;
  }
  const missing = 'no chromium: install Debian’s package of that name';
  process.stderr.write(`skipped: ${missing}\n`);
  describe.skip(missing, body);
}
