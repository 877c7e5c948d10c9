/**
 * How a lane's engine goes over to other rules: while it runs, or where that can't be, by starting anew. Either way it
 * is done only when the prover says that the engine inspects by them. Captured packets wait meanwhile.
 */
import type { Generation } from '../engine/generation.ts';
import type { EngineRules, RulesChange } from '../engine/rules.ts';
import type { Clock } from '../files/clock.ts';
import { messageOf } from '../files/errors.ts';
import type { LaneParts } from './parts.ts';

/** Between two frames of the agent's own while an engine goes over to other rules. */
const KICK_MILLIS = 100;

type Parts = Pick<LaneParts, 'state' | 'capture' | 'engine' | 'engineName' | 'prover' | 'clock'>;

/**
 * @returns why the engine does not inspect by them; undefined when it does. One that does not run has them at its next
 * start.
 */
export async function changeRules(
  parts: Parts,
  rules: EngineRules,
  { engine, proofMillis }: RulesChange,
): Promise<string | undefined> {
  const { state, engineName } = parts;
  state.newestRules = rules;
  const generation = state.running;
  if (generation === undefined) return undefined;
  // Told before it reads packets, it may not listen yet.
  if (state.readingSince === undefined) return 'its engine is starting';
  if (engine === 'anew') return startAnew(parts, proofMillis);
  // What overrides set, and categories, Suricata reads only when it starts, and Snort not always while it runs.
  const before = generation.rules();
  const overridden =
    rules.overrides !== before.overrides || rules.reputation?.categories !== before.reputation?.categories;
  if (engineName === 'suricata' && (overridden || sharesDatasets(before))) return startAnew(parts, proofMillis);
  const failure = await changeInPlace(parts, generation, rules, proofMillis);
  return failure !== undefined && overridden ? startAnew(parts, proofMillis) : failure;
}

/**
 * Whether rules of single pods may use datasets: Suricata frees those that it has loaded from files when it reloads the
 * rules of all, and rules of tenants still look at them then.
 * https://github.com/OISF/suricata/blob/suricata-7.0.10/src/datasets.c, DatasetPostReloadCleanup
 */
function sharesDatasets({ policies, data = [], files }: EngineRules): boolean {
  if (policies.length === 0 || data.length === 0) return false;
  return files.some(({ text }) => /\bdata(?:set|rep)\s*:/.test(text));
}

/** Starts the engine anew, with the rules that it was last told. */
export async function restartEngine({ state, capture, engine }: Parts): Promise<void> {
  if (state.stopping) return;
  capture.setOutput(undefined);
  await engine.replace();
}

/** @returns why it does not inspect by them. */
async function changeInPlace(
  { state, prover, clock }: Parts,
  generation: Generation,
  rules: EngineRules,
  proofMillis: number,
): Promise<string | undefined> {
  const over = new AbortController();
  state.reloads++;
  try {
    const staged = generation.stage(rules);
    const applied = staged.apply();
    return await Promise.race([
      onlyFailure(applied),
      generation.exited.then(() => 'its engine ended'),
      proveApplied(applied, () => prover.prove(staged.token, proofMillis, over.signal), clock),
    ]);
  } catch (error) {
    return messageOf(error);
  } finally {
    state.reloads++;
    over.abort();
  }
}

/** Rejects when it does, and else never settles. */
function onlyFailure(promise: Promise<void>): Promise<never> {
  return promise.then(() => new Promise<never>(() => undefined));
}

/**
 * Proves the new rules again and again until one proof has begun after they were applied: an engine with several things
 * to do needs packets until it has done the last one.
 * @returns why they are not proven.
 */
async function proveApplied(
  applied: Promise<void>,
  prove: () => Promise<boolean>,
  clock: Pick<Clock, 'wait'>,
): Promise<string | undefined> {
  let isApplied = false;
  // That it fails is the caller's to say.
  applied.then(
    () => (isApplied = true),
    () => undefined,
  );
  for (let isLast = isApplied; await prove(); isLast = isApplied) {
    if (isLast) return undefined;
    await Promise.race([applied, clock.wait(KICK_MILLIS, new AbortController().signal)]);
  }
  return 'its canary does not prove the new rules';
}

/** Another generation, with the rules that it was last told. @returns why it does not inspect. */
async function startAnew(parts: Parts, proofMillis: number): Promise<string | undefined> {
  const ready = new Promise<Generation>((resolve) => (parts.state.onReading = resolve));
  await restartEngine(parts);
  const timer = new AbortController();
  const next = await Promise.race([ready, parts.clock.wait(proofMillis, timer.signal).then(() => undefined)]);
  timer.abort();
  if (next?.token === undefined) return 'its engine does not start';
  return (await parts.prover.prove(next.token, proofMillis)) ? undefined : 'its canary does not prove its start';
}
