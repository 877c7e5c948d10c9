/**
 * Links to acknowledge, in the messages of a sink. Where their key can't be read, messages go out without them: an
 * alert does not wait for that.
 */
import type { Logger } from 'pino';
import type { Config } from '../../config/load.ts';
import type { SinkEntry } from '../../config/sinks.ts';
import { acknowledgeUrl, readKeys } from '../../events/acknowledgement.ts';
import { messageOf } from '../../files/errors.ts';
import type { About } from '../formats/alert.ts';
import { readText, watchFiles } from '../secret-files.ts';

export type Links = () => Promise<About['acknowledgeUrl']>;

/** @returns undefined where none are configured, or the sink has none. */
export function createLinks(
  entry: SinkEntry,
  { publicUrl, acknowledgeKeyFile: path, acknowledgeFor }: Config['ui'],
  log: Pick<Logger, 'warn' | 'info'>,
): Links | undefined {
  if (entry.kind !== 'http' || !entry.settings.acknowledge || publicUrl === undefined || path === undefined)
    return undefined;
  const files = watchFiles([{ path, failure: 'unauthorized' }], async () =>
    readKeys(await readText(path, 'unauthorized'), path),
  );
  let isTroubled = false;
  return async () => {
    try {
      const [key] = await files.read();
      if (isTroubled) log.info('messages have links to acknowledge again');
      isTroubled = false;
      if (key === undefined) return undefined;
      return (alert) => {
        const until = Math.floor((Date.now() + acknowledgeFor) / 1000);
        return alert === '' ? '' : acknowledgeUrl(publicUrl, { alert, until, via: entry.name }, key);
      };
    } catch (error) {
      if (!isTroubled) log.warn({ error: messageOf(error) }, 'messages have no link to acknowledge');
      isTroubled = true;
      return undefined;
    }
  };
}
