/**
 * One life of an agent's process, as far as rules are concerned: the parts of agent/cli/run.ts and
 * agent/cli/rule-sources.ts from a source to the lanes, put together as there, on the simulated machine.
 *
 * In place of the real ones: the download, the reader of rule files, the engine that loads them for a look, the lanes,
 * and what watches files.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { pino } from 'pino';
import type { EngineRules } from '../../../agent/engine/rules.ts';
import { errorCode } from '../../../agent/files/errors.ts';
import { openRules, type LiveRules, type LiveSystem } from '../../../agent/rulesets/live.ts';
import { parseRules } from '../../../agent/rulesets/rule.ts';
import { followSources } from '../../../agent/rulesets/schedule.ts';
import type { RuleSource } from '../../../agent/rulesets/sources.ts';
import { readGood, writeGood } from '../../../agent/rulesets/store.ts';
import { leaveUnproven } from '../../../agent/rulesets/unproven.ts';
import { RefusedError, updateSet } from '../../../agent/rulesets/update.ts';
import type { VirtualClock } from '../clock.ts';
import type { Disk } from '../disk.ts';
import { errno } from '../disk/nodes.ts';
import { linkOf, RULES, SET, STATE, type UpdatesOracle } from './oracle.ts';
import { inspectedBy, versionOf, type Publisher } from './publisher.ts';

const LOG = pino({ level: 'silent' });
const RETRY_MILLIS = 1000;
/** Between two looks at the files. */
const POLL_MILLIS = 10_000;
/** How long a canary may take, and what is not back by then, at most. */
const PROOF_MILLIS = 30_000;
/** What an agent that ends still does, at most. */
const ENDING_MILLIS = 5000;
const BUILT_IN = 'alert udp any any -> any any (msg:"built in"; sid:9; rev:1;)\n';

export interface UpdatesMachine {
  clock: VirtualClock;
  disk: Disk;
  publisher: Publisher;
  oracle: UpdatesOracle;
  random: () => number;
  lanes: number;
  source: RuleSource;
  /** So many were begun. */
  updates: number;
  /** How often a lane does not go over to rules that are well, 0..1. */
  stubborn: number;
  /** How often the rule files can't be read, as when too many files are open, 0..1. */
  unreadable: number;
}

/** Until somebody asks it to end. @param life `settles`: all is to be as it should be then. */
export async function runUpdates(
  machine: UpdatesMachine,
  life: { stopping: boolean; settles: boolean },
): Promise<void> {
  const { clock, disk, oracle, publisher, random, source } = machine;
  const files = disk.versionFiles;
  await leaveUnproven(RULES, LOG, files, () => false);
  const rules = await openOnceItCan(machine);
  oracle.begun(rules.engineRules());
  const lanes = Array.from({ length: machine.lanes }, (_, index) => laneOf(machine, `lane${index}`, rules));
  await clock.sleep(random() * 3000);
  const unfollow = rules.follow({ lanes: () => lanes, policies: () => [], packets: () => 0 });
  const schedule = followSources({
    sources: [source],
    rulesDirectory: RULES,
    log: LOG,
    clock,
    random,
    files,
    update: (_source, signal) =>
      updateSet({
        from: source.url ?? '',
        maxBytes: 1e6,
        timeoutMillis: 3_600_000,
        userAgent: 'simulation',
        rulesDirectory: RULES,
        set: SET,
        signal,
        async check(directory) {
          const version = versionOf((await files.readFile(join(directory, 'a.rules'))).toString());
          await clock.sleep(random() * 5000);
          if (version !== undefined && publisher.kindOf(version) === 'refused') throw new RefusedError('refused');
        },
        prove: () => rules.prove(SET),
        now: () => clock.date(),
        system: { files, fetch: publisher.fetch, unpack: publisher.unpack, id: () => String(machine.updates++) },
      }),
  });
  while (!life.stopping) await clock.sleep(RETRY_MILLIS);
  // A look that is under way at the end of all faults has not said anything yet.
  while (life.settles && schedule.status().some(({ state }) => state === 'updating')) await clock.sleep(RETRY_MILLIS);
  oracle.ending(schedule.status());
  void schedule.stop();
  unfollow();
  await clock.sleep(random() * ENDING_MILLIS);
}

/** The process is started anew until it can read its rules. */
async function openOnceItCan(machine: UpdatesMachine): Promise<LiveRules> {
  const { clock, publisher, random } = machine;
  const options = {
    sources: { rulesDirectory: RULES, paths: [], engine: 'snort' as const },
    ruleSets: ['built-in', SET],
    alsoUsed: [],
    awaited: [SET],
    leaveOut: true,
    directory: STATE,
    engine: 'snort 3',
    memoryLimit: 2 ** 30,
    quietMillis: 0,
    log: LOG,
    async validate(tried: EngineRules) {
      await clock.sleep(random() * 5000);
      const version = inspectedBy(tried);
      return version !== undefined && publisher.kindOf(version) === 'refused'
        ? { is: 'refused' as const, reason: 'refused', errors: [] }
        : { is: 'accepted' as const };
    },
  };
  for (;;) {
    try {
      return await openRules(options, systemOf(machine));
    } catch (error) {
      if (errorCode(error) === undefined) throw error;
    }
    await clock.sleep(RETRY_MILLIS);
  }
}

function systemOf({ clock, disk, random, unreadable }: UpdatesMachine): LiveSystem {
  return {
    clock,
    async read(_options, _policies, before) {
      if (random() < unreadable) throw errno('EMFILE', 'open', linkOf());
      return readSets(disk, before);
    },
    readGood: (directory, engine) => readGood(directory, engine, disk.storeFiles),
    writeGood: (directory, engine, candidate) => writeGood(directory, engine, candidate, disk.storeFiles),
    watch({ changed }) {
      let seen: string | undefined;
      clock.after(0, changed);
      return clock.every(POLL_MILLIS, () => {
        const now = disk.target(linkOf());
        if (now !== seen) changed();
        seen = now;
      });
    },
  };
}

type Read = Awaited<ReturnType<LiveSystem['read']>>;

/** As candidate.ts does, of one set that comes from a source, and one that is always there. */
async function readSets({ versionFiles: files }: Disk, before: Parameters<LiveSystem['read']>[2]): Promise<Read> {
  const texts = new Map([['built-in', new Map([['/usr/share/built-in.rules', BUILT_IN]])]]);
  const target = await files.readlink(linkOf()).catch(missing);
  if (target !== undefined) {
    const folder = join(RULES, target);
    const entries = (await files.readdir(folder, { withFileTypes: true })).filter(({ name }) =>
      name.endsWith('.rules'),
    );
    const found = new Map<string, string>();
    for (const { name } of entries)
      found.set(join(linkOf(), name), (await files.readFile(join(folder, name))).toString());
    if (found.size > 0) texts.set(SET, found);
  }
  const sets = new Map([...texts].map(([name, found]) => [name, setOf(name, found, before)]));
  return {
    sets: new Map([...texts].map(([name, found]) => [name, { name, files: filesOf(found) }])),
    defaults: [...texts.keys()],
    named: [],
    candidate: { sets },
  };
}

const filesOf = (texts: ReadonlyMap<string, string>) =>
  [...texts.keys()].map((path) => ({ path, syntax: 'either' as const }));

function setOf(name: string, texts: ReadonlyMap<string, string>, before: Parameters<LiveSystem['read']>[2]) {
  const hash = createHash('sha256')
    .update(JSON.stringify([...texts]))
    .digest('hex');
  const same = before?.sets.get(name);
  if (same?.hash === hash) return same;
  const rules = [...texts].flatMap(([file, text]) =>
    parseRules(text, { file }).rules.map((rule) => ({ ...rule, sets: [name], staged: rule.text })),
  );
  return { name, hash, changedAt: 0, rules, failed: [] };
}

function missing(error: unknown): undefined {
  if (errorCode(error) === 'ENOENT') return undefined;
  throw error;
}

/** An engine that goes over to other rules, or does not, and whose canary then tells. */
function laneOf({ clock, publisher, random, oracle, stubborn }: UpdatesMachine, name: string, live: LiveRules) {
  let told = live.engineRules();
  oracle.inspects(name, told);
  return {
    name,
    async reload(rules: EngineRules) {
      told = rules;
      await clock.sleep(random() * 2000);
      const version = inspectedBy(rules);
      const isBlind = version !== undefined && publisher.kindOf(version) === 'blind';
      const fails = isBlind || random() < stubborn;
      await clock.sleep(fails ? PROOF_MILLIS : random() * 500);
      oracle.inspects(name, rules);
      if (!fails) oracle.proved(name, rules);
      return fails ? 'its canary does not prove them' : undefined;
    },
    async restart() {
      await clock.sleep(random() * 3000);
      oracle.inspects(name, told);
    },
  };
}
