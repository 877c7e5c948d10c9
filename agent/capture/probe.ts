/** What a capture process would capture by: one is started for a moment, opens no interface and writes nothing. */
import { forkProbe } from './child.ts';
import type { CaptureSettings, FromCapture, LibraryName } from './protocol.ts';

const PROBE_MILLIS = 10_000;

/** `instead`: why it is not the library that `auto` takes first. */
export type Probed = { library: LibraryName; instead?: string } | { library: undefined; reason: string };

/** Takes up to ten seconds. */
export async function probeCapture(settings: CaptureSettings): Promise<Probed> {
  const child = forkProbe(settings);
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  let timer: NodeJS.Timeout | undefined;
  const probed = await new Promise<Probed>((resolve) => {
    const fail = (reason: string): void => resolve({ library: undefined, reason });
    child.on('message', (message: FromCapture) => {
      if (message.type === 'failed') fail(message.reason);
      if (message.type !== 'started') return;
      const { library, instead } = message;
      resolve({ library, ...(instead === undefined ? {} : { instead }) });
    });
    child.once('exit', (code, signal) => fail(`the capture process ended with ${signal ?? `status ${code}`}`));
    child.once('error', (error) => fail(error.message));
    timer = setTimeout(() => fail(`the capture process did not start within ${PROBE_MILLIS / 1000} s`), PROBE_MILLIS);
  });
  clearTimeout(timer);
  if (child.pid === undefined) return probed;
  child.kill('SIGKILL');
  await exited;
  return probed;
}
