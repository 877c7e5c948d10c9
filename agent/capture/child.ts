/** A capture process as its parent sees it: how it begins, and how its first answer is waited for. */
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { loadNative } from '../native.ts';
import { openMailbox, type Mailbox } from './mailbox.ts';
import type { CaptureSettings, FromCapture } from './protocol.ts';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
/** What a capture process drops is soon forgotten: V8 of Node 24 would let 100 MB of it gather. In MiB. */
const YOUNG_HEAP = '--max-semi-space-size=4';
/**
 * Opening and closing a ring is waiting for the kernel, for grace periods that all who wait at the same time share: 250
 * rings take four threads, which is what Node has, 1 s and 2 s, and these 0.1 s and 0.2 s, at half of the CPU.
 */
const THREADS = { UV_THREADPOOL_SIZE: '32' };

const mailboxes = new WeakMap<ChildProcess, Mailbox>();

export function forkCapture(settings: CaptureSettings): ChildProcess {
  const mailbox = openMailbox();
  const child = fork(MAIN, [...argumentsOf(settings), ...(mailbox === undefined ? [] : ['mailbox'])], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...(mailbox === undefined ? [] : [mailbox.file])],
    // Packets are bytes.
    serialization: 'advanced',
    execArgv: [YOUNG_HEAP],
    env: { ...THREADS, ...process.env },
  });
  if (mailbox === undefined) return child;
  mailboxes.set(child, mailbox);
  // Behind its last message, and where it could not be started.
  child.once('disconnect', () => mailbox.close());
  child.once('error', () => mailbox.close());
  return child;
}

/** undefined: there is none. */
export function mailboxOf(child: ChildProcess | undefined): Mailbox | undefined {
  return child === undefined ? undefined : mailboxes.get(child);
}

/** One that is only asked what it would capture by, and whose errors nobody reads. */
export function forkProbe(settings: CaptureSettings): ChildProcess {
  return fork(MAIN, argumentsOf(settings), {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    execArgv: [],
    serialization: 'advanced',
  });
}

/** The native part that this process has loaded needs no further question whether it can be loaded. */
function argumentsOf(settings: CaptureSettings): string[] {
  return [JSON.stringify(settings), loadNative().file ?? ''];
}

/** The first message of a kind. Rejects when the process ends before, or takes too long. */
export function firstMessage<Type extends FromCapture['type']>(
  child: ChildProcess,
  type: Type,
  timeoutMillis: number,
): Promise<Extract<FromCapture, { type: Type }>> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => fail('it took too long'), timeoutMillis);
    const onExit = (): void => fail('it ended');
    const onMessage = (message: unknown): void => {
      if ((message as FromCapture).type !== type) return;
      cleanUp();
      resolve(message as Extract<FromCapture, { type: Type }>);
    };
    function cleanUp(): void {
      clearTimeout(timer);
      child.off('exit', onExit).off('message', onMessage);
    }
    function fail(reason: string): void {
      cleanUp();
      reject(new Error(reason));
    }
    child.on('exit', onExit).on('message', onMessage);
  });
}
