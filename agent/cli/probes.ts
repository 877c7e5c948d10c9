/** Probes and metrics over HTTP, as the configuration says. */
import type { Logger } from 'pino';
import type { Config } from '../config/load.ts';
import { serve, type Answers } from '../observe/server.ts';

/** What can't be served is said, and no reason not to go on. @returns what ends it. */
export async function serveProbes(
  { port, address }: Config['http'],
  answers: Answers,
  log: Logger,
): Promise<() => void> {
  if (port === 0) return () => undefined;
  try {
    const server = await serve({ port, ...(address === undefined ? {} : { address }), ...answers });
    return () => server.close();
  } catch (error) {
    log.error({ err: error, port, address }, 'probes and metrics are not served; set http.port or http.address');
    return () => undefined;
  }
}
