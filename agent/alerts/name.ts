/**
 * Names the ends of flows that are no endpoints of this node, by asking somebody who may have to ask somebody else.
 *
 * Alerts keep their order, and none is held back for longer than its answer takes, nor than NAMING_MILLIS.
 */
import type { AttributedAlert, Peer } from './attributed.ts';

/** Who knows names of addresses. */
export interface Names {
  /** Resolves within `millis` with those that are known by then, by the addresses as given. Never rejects. */
  resolve(addresses: string[], millis: number): Promise<ReadonlyMap<string, Peer>>;
}

const NAMING_MILLIS = 200;

/** An answer that is awaited, or has come. */
interface Answer {
  names: ReadonlyMap<string, Peer> | undefined;
  arrived: Promise<void>;
}

export interface Namer {
  /** An alert was read; asks for its names while it waits for other things. */
  expect(attributed: AttributedAlert): void;
  /** Gives the alerts on, in order, in batches, as soon as the first one's names are there. */
  name(alerts: AttributedAlert[]): AsyncIterable<AttributedAlert[]>;
}

export function createNamer(names: Names | undefined, millis = NAMING_MILLIS): Namer {
  /** Of alerts that were read and not given on; copies of one alert for several resources share theirs. */
  const answers = new WeakMap<AttributedAlert['alert'], Answer>();

  return {
    expect({ alert, source, destination }) {
      if (names === undefined || answers.has(alert)) return;
      const unknown = [
        ...(source === undefined ? [alert.source.ip] : []),
        ...(destination === undefined ? [alert.destination.ip] : []),
      ];
      if (unknown.length === 0) return;
      const answer: Answer = { names: undefined, arrived: Promise.resolve() };
      answer.arrived = names.resolve(unknown, millis).then((peers) => {
        answer.names = peers;
      });
      answers.set(alert, answer);
    },
    async *name(alerts) {
      let batch: AttributedAlert[] = [];
      for (const attributed of alerts) {
        const answer = answers.get(attributed.alert);
        if (answer !== undefined && answer.names === undefined) {
          if (batch.length > 0) yield batch;
          batch = [];
          await answer.arrived;
        }
        batch.push(withNames(attributed, answer?.names));
      }
      if (batch.length > 0) yield batch;
    },
  };
}

function withNames(attributed: AttributedAlert, names: Answer['names']): AttributedAlert {
  const source = attributed.source ?? names?.get(attributed.alert.source.ip);
  const destination = attributed.destination ?? names?.get(attributed.alert.destination.ip);
  return {
    ...attributed,
    ...(source === undefined ? {} : { source }),
    ...(destination === undefined ? {} : { destination }),
  };
}
