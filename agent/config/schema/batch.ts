/** How a sink gathers events into batches. */
import { about, bytes, integer, millis } from '../leaves.ts';

export const batch = {
  batchEvents: about(
    integer(1, 10_000).prefault(1000),
    'an integer from 1 to 10000',
    'At most this many events are sent together.',
  ),
  batchSize: about(
    bytes('64KiB', '64MiB').prefault('5MiB'),
    'a size from 64KiB to 64MiB',
    'At most this much is sent together, before compression; an event that is larger goes alone.',
  ),
  batchMillis: about(
    millis(0, 60_000).prefault(200),
    'milliseconds from 0 to 60000, such as 200ms',
    'How long an event waits at most for others to be sent with it.',
  ),
};
