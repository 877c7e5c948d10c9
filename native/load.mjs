// @ts-check
/**
 * Whether a native part can be loaded: for set-up, which builds it again, and for the agent, which does without.
 * Plain JavaScript with Node's own modules: set-up runs before anything is compiled.
 */
import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** What native/capture.c exports; agent/native.ts has their types. */
export const CALLS = /** @type {const} */ ([
  'open',
  'fill',
  'statistics',
  'mute',
  'close',
  'wake',
  'rearm',
  'arena',
  'renew',
  'splice',
  'pending',
  'widen',
  'makeFifo',
  'timerSlack',
]);

/** A Node that does not even say that it can't. */
const HANGS_MILLIS = 30_000;

const NOT_BUILT = 'it is not built';

const SCRIPT = `
const [path, ...calls] = process.argv.slice(1);
const module = { exports: {} };
let why = '';
try {
  process.dlopen(module, path, require('os').constants.dlopen.RTLD_NOW);
  const missing = calls.filter((name) => typeof module.exports[name] !== 'function');
  if (missing.length > 0) why = path + ' lacks ' + missing.join(', ') + ': it was built from another source';
} catch (error) {
  why = error.message;
}
process.stdout.write(why);
process.exitCode = why === '' ? 0 : 1;`;

/**
 * Why a Node can't load a native part, as one line; undefined when it can. Asked of a process of its own, because a
 * file that is damaged may end it: a tenth of a second.
 * @param {string} path
 * @param {{ calls?: readonly string[], node?: string }} [options] `calls`: those that it has to have.
 * @returns {string | undefined}
 */
export function whyNotLoaded(path, { calls = [], node = process.execPath } = {}) {
  if (!existsSync(path)) return NOT_BUILT;
  const { status, signal, stdout } = spawnSync(node, ['-e', SCRIPT, path, ...calls], { encoding: 'utf8', ...limits() });
  return status === 0 ? undefined : whyOf(path, stdout, signal ?? `status ${status}`);
}

/**
 * The same, while this process does other things.
 * @param {string} path
 * @param {{ calls?: readonly string[] }} [options]
 * @returns {Promise<string | undefined>}
 */
export async function whyNotLoadedMeanwhile(path, { calls = [] } = {}) {
  if (!existsSync(path)) return NOT_BUILT;
  return new Promise((resolve) => {
    execFile(process.execPath, ['-e', SCRIPT, path, ...calls], limits(), (error, stdout) =>
      resolve(error === null ? undefined : whyOf(path, stdout, error.signal ?? `status ${error.code}`)),
    );
  });
}

const limits = () => ({ timeout: HANGS_MILLIS, env: { ...process.env, NODE_OPTIONS: '' } });

/**
 * @param {string} path
 * @param {string | null} said
 * @param {string} end
 */
function whyOf(path, said, end) {
  // Without Node's advice.
  const [reason = ''] = (said ?? '').split(/\s*Please try/);
  return reason.trim().replaceAll('\n', ' ') || `loading ${path} ends a process with ${end}`;
}
