/** Declares cases for an engine, on a lab, with an Elasticsearch of their own, or says in one line what is missing. */
import { afterAll, afterEach, beforeAll, describe } from '@jest/globals';
import { openLab, whyNoLab, type Lab, type Pod } from '../../../scripts/lab.ts';
import {
  describeElasticsearch,
  isElasticsearchGiven,
  startElasticsearch,
  type ElasticsearchOptions,
  type TestElasticsearch,
} from '../../support/elasticsearch.ts';
import { findTestEngine } from '../../support/engines.ts';
import { whyNoProc } from '../../support/proc.ts';
import { openRig, type EngineName, type Rig, type RigOptions } from './rig.ts';

export interface Bench {
  /** Snort where it is, else Suricata. */
  engine: EngineName;
  pod: () => Pod;
  lab: () => Lab;
  elasticsearch: () => TestElasticsearch;
  /** Opens a rig that closes after the test. */
  rig: (
    options: Omit<RigOptions, 'lab' | 'pod' | 'engine' | 'elasticsearch'> & { engine?: EngineName },
  ) => Promise<Rig>;
}

export function describeFaults(body: (bench: Bench) => void, options: ElasticsearchOptions = {}): void {
  const found = (['snort', 'suricata'] as const).find((name) => findTestEngine(name) !== undefined);
  const missing =
    whyNoProc ??
    whyNoLab() ??
    (found === undefined ? 'neither Snort 3 nor Suricata is installed' : undefined) ??
    (isElasticsearchGiven
      ? 'the fault campaign ends its Elasticsearch, and $ELASTICSEARCH_URL gives another'
      : undefined);
  if (missing !== undefined) {
    process.stderr.write(`skipped: ${missing}\n`);
    describe.skip(missing, () => body(bench(found ?? 'snort', options)));
    return;
  }
  describeElasticsearch(() => body(bench(found ?? 'snort', options)));
}

/** To be called while tests are declared: its hooks are of the block around. */
function bench(engine: EngineName, options: ElasticsearchOptions): Bench {
  let lab: Lab | undefined;
  let pod: Pod | undefined;
  let elasticsearch: TestElasticsearch | undefined;
  let rig: Rig | undefined;
  const there = <T>(value: T | undefined): T => {
    if (value === undefined) throw new Error('not in a test');
    return value;
  };
  beforeAll(async () => {
    lab = openLab('dpi-f');
    pod = lab.addPod({ name: 'victim', address: '10.65.9.2' });
    elasticsearch = await startElasticsearch(options);
  });
  afterEach(async () => {
    await rig?.close();
    rig = undefined;
  });
  afterAll(async () => {
    lab?.close();
    await elasticsearch?.stop();
  });
  return {
    engine,
    lab: () => there(lab),
    pod: () => there(pod),
    elasticsearch: () => there(elasticsearch),
    async rig(rigOptions) {
      rig = await openRig({
        engine,
        ...rigOptions,
        lab: there(lab),
        pod: there(pod),
        elasticsearch: there(elasticsearch),
      });
      return rig;
    },
  };
}
