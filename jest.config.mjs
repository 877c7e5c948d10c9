// Projects by file name: `x.test.ts` is plain (`unit`), `x.<project>.test.ts` needs that project's real parts.
const common = {
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' }, module: { type: 'es6' }, sourceMaps: 'inline' },
    ],
  },
  testEnvironment: 'node',
};

export default {
  projects: [
    { ...common, displayName: 'unit', testRegex: ['/test/(.*/)?[^./]+\\.test\\.ts$'] },
    ...['engine', 'network', 'kubernetes', 'elasticsearch', 'browser', 'cluster'].map((name) => ({
      ...common,
      displayName: name,
      testMatch: [`<rootDir>/test/**/*.${name}.test.ts`],
    })),
  ],
  testSequencer: '<rootDir>/scripts/longest-first.mjs',
  // Real engines, veths and child processes: two at once on two cores would only wait for each other.
  maxWorkers: 2,
  // No test is that slow here; a machine of a tenth of the speed may be, and a server gets two tries to start.
  testTimeout: 900_000,
};
