/** A real Chromium, with a profile of its own. */
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { chromium, type BrowserContext } from 'playwright-core';

/** For slow machines. */
const PATIENCE_MILLIS = 120_000;

/** As root it needs --no-sandbox; the rest keeps it from asking others, and from a small /dev/shm. */
const FLAGS =
  '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --disable-dev-shm-usage'.split(
    ' ',
  );

export function findChromium(): string | undefined {
  const names = ['chromium', 'chromium-browser', 'google-chrome'];
  return (process.env['PATH'] ?? '')
    .split(delimiter)
    .flatMap((folder) => names.map((name) => join(folder, name)))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

export interface TestBrowser {
  context: BrowserContext;
  close(): Promise<void>;
}

/** @param options The program, by default the one on PATH; and whether a certificate that nobody signed will do. */
export async function openBrowser(
  options: { executablePath?: string; ignoreHTTPSErrors?: boolean } = {},
): Promise<TestBrowser> {
  const profile = mkdtempSync(join(tmpdir(), 'dpi-browser-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: options.executablePath ?? findChromium() ?? '',
    ignoreHTTPSErrors: options.ignoreHTTPSErrors === true,
    headless: true,
    viewport: { width: 1440, height: 900 },
    colorScheme: 'light',
    // Without a graphics card, what moves takes a CPU as long as the page is open.
    reducedMotion: 'reduce',
    timezoneId: 'UTC',
    locale: 'en-GB',
    args: FLAGS,
    timeout: PATIENCE_MILLIS,
  });
  context.setDefaultTimeout(PATIENCE_MILLIS);
  return {
    context,
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 10 });
    },
  };
}
