/**
 * The packets of alerts from capture files: events are held until the flows of some hundred are known, then their file
 * is read once more for all of them.
 */
import type { Logger } from 'pino';
import type { AttributedAlert } from '../alerts/attributed.ts';
import type { Config } from '../config/load.ts';
import { createEvidence, type Evidence, type EvidenceCounts } from '../evidence/collect.ts';
import { knownOf } from '../evidence/place.ts';
import { createRecordedPackets, type RecordedPackets } from '../evidence/recorded.ts';
import { openEvidenceStore } from '../evidence/store.ts';
import { withKnown } from '../events/describe.ts';
import type { EeEvent } from '../events/event.ts';

/** That are held. */
const MAX_EVENTS = 512;
/** Of the lane that a replay inspects by. */
const LANE = 'replay';

/** What became of the alerts' packets. */
export interface Kept {
  counts: EvidenceCounts;
  /** Files that were deleted again for want of room. */
  evicted: number;
}

export interface PacketsOfAlerts {
  /** Gives it on with what its flow said, now or with others. */
  add(event: EeEvent, attributed: AttributedAlert): Promise<void>;
  /** Gives on what is held. */
  end(): Promise<Kept>;
}

interface State {
  readonly directory: string;
  readonly evidence: Evidence;
  readonly recorded: RecordedPackets;
  readonly abandon: AbortSignal;
  readonly give: (event: EeEvent) => void;
  /** All of one file. */
  held: EeEvent[];
  file: string | undefined;
}

/** @param abandon Ends reading: events go on without. @throws the system's error where the folder can't be used. */
export async function openPacketsOfAlerts(
  directory: string,
  settings: Config['evidence'],
  { log, abandon, give }: { log: Logger; abandon: AbortSignal; give: (event: EeEvent) => void },
): Promise<PacketsOfAlerts> {
  const recorded = createRecordedPackets();
  const evidence = createEvidence({
    settings: { ...settings, keep: settings.keep === 'off' ? 'full' : settings.keep },
    most: { flows: MAX_EVENTS, rate: MAX_EVENTS, alerts: MAX_EVENTS },
    shareMillis: Math.max(1, settings.after),
    store: await openEvidenceStore({ directory, maxSize: settings.maxSize, maxAge: 0 }),
    lanes: [{ name: LANE, capture: { packetsOf: recorded.packetsOf, countersOf: () => undefined } }],
    log,
  });
  const state: State = { directory, evidence, recorded, abandon, give, held: [], file: undefined };
  return {
    add: (event, attributed) => add(state, event, attributed),
    async end() {
      await readHeld(state);
      const { alerts, evicted } = evidence.status();
      return { counts: { ...alerts }, evicted };
    },
  };
}

async function add(state: State, event: EeEvent, attributed: AttributedAlert): Promise<void> {
  const { evidence } = state;
  // A replay's endpoints are its files.
  const file = attributed.seenAt[0]?.id;
  if (file !== state.file || state.held.length >= MAX_EVENTS) await readHeld(state);
  state.file = file;
  evidence.collect(attributed);
  state.held.push(event);
}

async function readHeld(state: State): Promise<void> {
  const { directory, evidence, recorded, abandon, give, held, file } = state;
  state.held = [];
  if (file !== undefined) await recorded.read(file, abandon).catch(unlessAborted(abandon));
  await evidence.settled();
  for (const event of held) {
    const known = await knownOf(directory, event);
    give(known === undefined ? event : withKnown(event, known));
  }
}

function unlessAborted(signal: AbortSignal): (error: unknown) => void {
  return (error) => {
    if (!signal.aborted) throw error;
  };
}
