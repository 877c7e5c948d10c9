/** What follows when alerts are acknowledged or dismissed on the page: their incidents end. */
import type { Logger } from 'pino';
import type { Config } from '../../config/load.ts';
import { sinkEntries } from '../../config/sinks.ts';
import { isRecord } from '../../files/record.ts';
import type { AlertSource } from '../../ui/source.ts';

/** Documents that are read at once. */
const CHUNK = 100;

export interface Handled {
  /** @param ids Of alerts. */
  note: (ids: readonly string[]) => void;
  close(): Promise<void>;
}

const NOTHING: Handled = { note: () => undefined, close: async () => undefined };

export async function followHandled(config: Config, source: AlertSource, log: Logger): Promise<Handled> {
  const sinks = sinkEntries(config.sinks);
  if (!sinks.some((sink) => sink.kind === 'http' && sink.settings.format === 'pagerduty')) return NOTHING;
  const { createResolver } = await import('../../ship/resolve.ts');
  const { publicUrl } = config.ui;
  const about = { cluster: config.cluster, ...(publicUrl === undefined ? {} : { publicUrl }) };
  const resolver = await createResolver({ sinks, about, log });
  const closing = new AbortController();
  let noted = Promise.resolve();

  async function resolve(ids: readonly string[]): Promise<void> {
    for (let from = 0; from < ids.length && !closing.signal.aborted; from += CHUNK) {
      const found = await source.get(ids.slice(from, from + CHUNK), closing.signal);
      resolver.resolve(found.map(({ event }) => event).filter(isRecord));
    }
  }

  return {
    note(ids) {
      noted = noted.then(() =>
        resolve(ids).catch((error: unknown) => log.warn({ err: error }, 'incidents of alerts stay open')),
      );
    },
    async close() {
      closing.abort(new Error('the page ends'));
      await noted;
      await resolver.close();
    },
  };
}
