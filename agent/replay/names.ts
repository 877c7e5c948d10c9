/** Names for the files of a replay, so that each event tells which of them it is of. */
import { STDIN } from './head.ts';

/**
 * The shortest ends of the paths that are different, also where they become part of a resource's name; a file that is
 * named twice, or that can't be told apart so, has a number behind it.
 */
export function distinctNames(files: readonly string[]): string[] {
  const sharers = countSharers(files);
  const taken = new Set<string>();
  return files.map((file) => {
    const end = distinctEnd(file, sharers);
    let name = end;
    for (let number = 2; taken.has(plainName(name)); number++) name = `${end}#${number}`;
    taken.add(plainName(name));
    return name;
  });
}

/** As a resource may be called. */
export function plainName(name: string): string {
  return name.replaceAll(/[^\w.-]/g, '_');
}

/** Of each end of a path, how many paths have it. */
function countSharers(files: readonly string[]): Map<string, number> {
  const sharers = new Map<string, number>();
  const paths = new Set(files.map((file) => stepsOf(file).join('/')));
  for (const path of paths) for (const end of endsOf(path)) sharers.set(end, (sharers.get(end) ?? 0) + 1);
  return sharers;
}

function distinctEnd(file: string, sharers: ReadonlyMap<string, number>): string {
  if (file === STDIN) return 'stdin';
  const path = stepsOf(file).join('/');
  // One path is the end of another: the whole tells them apart.
  return endsOf(path).find((end) => sharers.get(end) === 1) ?? path;
}

/** `a/b/c`: `c`, `b/c` and `a/b/c`. */
function endsOf(path: string): string[] {
  const steps = path.split('/');
  return steps.map((_, index) => steps.slice(-index - 1).join('/'));
}

function stepsOf(file: string): string[] {
  return file.split('/').filter((step) => step !== '' && step !== '.');
}
