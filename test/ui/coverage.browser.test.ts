/** The coverage page in a real browser: agents that answer their status as agents do, and one that does not. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Page } from 'playwright-core';
import { describeBrowser, openBrowser, type TestBrowser } from '../support/browser.ts';
import { startUi, type TestUi } from '../support/ui.ts';
import { makeJournal } from './support.ts';

const HOSTILE = '<img src=x onerror="document.title=1">\u202Egpj';

/** More pods with encrypted traffic than are listed, the one with most of it last. */
const endpoints = [
  ...Array.from({ length: 12 }, (_, index) => ({
    id: `shop/pod-${index}`,
    encrypted: { bytes: index, share: 0.0001 },
  })),
  { id: `shop/${HOSTILE}`, encrypted: { bytes: 5_000_000, share: 0.875 } },
];
const status = {
  time: 1,
  agent: { node: 'node-1', version: '1' },
  state: 'inspecting',
  problems: [],
  engine: { name: 'snort', version: '3' },
  rules: { loaded: 85 },
  alerts: {},
  lanes: [],
  endpoints,
  resources: [],
  sinks: [],
};

describeBrowser(() => {
  let journal: Awaited<ReturnType<typeof makeJournal>>;
  let agent: Server;
  let ui: TestUi;
  let browser: TestBrowser;
  let page: Page;
  beforeAll(async () => {
    journal = await makeJournal();
    agent = createServer((_request, response) => response.end(JSON.stringify(status)));
    await new Promise<void>((resolve) => agent.listen(0, '127.0.0.1', resolve));
    const { port } = agent.address() as AddressInfo;
    const flags = ['--journal.directory', journal.directory, '--ui.agents', `http://127.0.0.1:${port}`];
    ui = await startUi(...flags, '--ui.agents', '/nowhere/agent.sock');
    browser = await openBrowser();
    page = await browser.context.newPage();
  });
  afterAll(async () => {
    await browser?.close();
    await ui?.stop();
    agent?.close();
    await journal?.remove();
  });

  test('says what share of which pods nobody can inspect, most first, and which agent does not answer', async () => {
    await page.goto(`${ui.url}?page=coverage`);
    const region = page.getByRole('region', { name: 'Encrypted traffic, not inspected' });
    // One alone has the name: a screen reader lists it once.
    await region.waitFor();
    const rows = await region.getByRole('row').allInnerTexts();
    expect(rows).toHaveLength(11);
    expect(rows[1]).toContain('5,000,000');
    expect(rows[1]).toContain('87.5 %');
    expect(rows[1]).toContain('<img');
    expect(rows[2]).toContain('< 0.1 %');
    expect(await page.title()).not.toBe('1');
    expect(await page.getByText('No answer').count()).toBe(1);
  });
});
