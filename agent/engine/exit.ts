/** How an engine's process ended, and what it printed. */
import type { ChildProcess } from 'node:child_process';

/** How much of a child's first and last output an error carries. */
const OUTPUT_BYTES = 32 * 1024;

export interface EngineExit {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** The first and the last of what the engine printed; 32 KiB of each where nothing else is said. */
  output: string;
}

/** Resolves when the process is over, or could not be started. @param output What it printed, when it is over. */
export function exitOf(child: ChildProcess, output: () => string): Promise<EngineExit> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve({ code: null, signal: null, output: String(error) }));
    child.once('close', (code, signal) => resolve({ code, signal, output: output() }));
  });
}

export interface BoundedOutput {
  add: (chunk: string) => void;
  text: () => string;
}

/** Keeps the first and the last `limit` characters of a stream. */
export function boundedOutput(limit = OUTPUT_BYTES): BoundedOutput {
  let head = '';
  let tail = '';
  let dropped = 0;
  function cut(): void {
    dropped += Math.max(0, tail.length - limit);
    tail = tail.slice(-limit);
  }
  return {
    add(chunk) {
      let text = chunk;
      const room = limit - head.length;
      head += text.slice(0, room);
      text = text.slice(room);
      tail += text;
      if (tail.length > 2 * limit) cut();
    },
    text() {
      cut();
      return dropped === 0 ? head + tail : `${head}\n[… ${dropped} characters left out …]\n${tail}`;
    },
  };
}
