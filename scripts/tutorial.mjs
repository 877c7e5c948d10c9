#!/usr/bin/env node
/**
 * Makes docs/tutorial.md and its pictures anew, by doing on a real cluster what it says:
 *   npm run tutorial
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const { status } = spawnSync(
  process.execPath,
  [join(import.meta.dirname, 'jest.mjs'), '--selectProjects', 'cluster', '--testPathPatterns', 'tutorial'],
  { stdio: 'inherit', env: { ...process.env, DPI_AGENT_TEST_TUTORIAL: 'write' } },
);
process.exit(status ?? 1);
