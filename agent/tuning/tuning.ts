/**
 * Quietens alerts: an entry of the policy, or a rule that is turned off. Each has who made it, when and why, is tried
 * on alerts that there were before it is kept, and can be taken out again by its name.
 *
 * Who may do it is decided before: nothing here knows of rights.
 */
import { plain } from '../config/text.ts';
import { parsePolicy, type LoadedPolicy } from '../alerts/policy-file.ts';
import { entriesOf, withEntry, withoutEntry, PolicyEditError } from '../alerts/policy-edit.ts';
import type { Place } from './place.ts';
import { tryPolicy, type Outcome, type PastAlert } from './preview.ts';
import { offName, offRules, withoutOff, withRuleOff } from './rules-off.ts';
import type { TuneRequest, Tuned } from './entry.ts';

export interface Tuning {
  /** Where it is kept, for people. */
  readonly where: string;
  list(): Promise<Tuned[]>;
  /** What it would have left out. @throws TuningError */
  attempt(request: TuneRequest, past: readonly PastAlert[]): Outcome;
  /** @throws TuningError */
  add(request: TuneRequest, by: string): Promise<Tuned>;
  /** @returns what it was. @throws TuningError where there is none of this name. */
  remove(name: string): Promise<Tuned>;
}

/** What is asked for can't be done. The message says why. */
export class TuningError extends Error {}

const MAX_REASON = 500;

export function createTuning(place: Place, now: () => Date = () => new Date()): Tuning {
  const policyName = place.name('policy') ?? 'policy';
  return {
    where: policyName,
    list: () => listAll(place),
    attempt: (request, past) => tryPolicy(alone(request), past),
    async add(request, by) {
      alone(request);
      const about = { reason: plain(request.reason, MAX_REASON), by: plain(by, 256), at: now().toISOString() };
      const name =
        request.kind === 'off' ? await turnOff(place, request, about) : await addEntry(place, request, about);
      const added = (await listAll(place)).find((tuned) => tuned.name === name);
      if (added === undefined) throw new TuningError('it was taken out again meanwhile');
      return added;
    },
    async remove(name) {
      const known = (await listAll(place)).find((tuned) => tuned.name === name);
      if (known === undefined) throw new TuningError(`there is no entry ${plain(name, 80)} any more`);
      if (known.kind === 'off') await place.edit('changes', (text) => withoutOff(text, name));
      else await refusing(place.edit('policy', (text) => withoutEntry(policyName, text, name) ?? text));
      return known;
    },
  };
}

interface About {
  reason: string;
  by: string;
  at: string;
}

async function addEntry(place: Place, request: TuneRequest, about: About): Promise<string> {
  const where = place.name('policy') ?? 'policy';
  let name = '';
  await refusing(
    place.edit('policy', (text) => {
      name = freeName(request, new Set(entriesOf(where, text).map((entry) => entry.name)));
      const part = request.kind === 'limit' ? 'threshold' : 'suppress';
      return withEntry(where, text, part, { name, ...criteriaOf(request), ...limitOf(request), ...about });
    }),
  );
  return name;
}

async function turnOff(place: Place, { signature = '' }: TuneRequest, about: About): Promise<string> {
  await place.edit('changes', (text) => withRuleOff(text, signature, about));
  return offName(signature);
}

async function listAll(place: Place): Promise<Tuned[]> {
  const where = place.name('policy') ?? 'policy';
  const entries = place.name('policy') === undefined ? [] : entriesOf(where, await place.read('policy'));
  const off = place.name('changes') === undefined ? [] : offRules(await place.read('changes'));
  return [...entries.map(({ part, name, says, over }) => tunedOf(part, name, says, over)), ...off];
}

function tunedOf(kind: Tuned['kind'], name: string, says: Readonly<Record<string, unknown>>, over: boolean): Tuned {
  const { name: _, reason, by, at, until, ...rest } = says;
  const about = Object.entries({ reason, by, at, until }).flatMap(([key, value]) =>
    value === undefined ? [] : [[key, textOf(value)]],
  );
  const written = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, textOf(value)]));
  return { name, kind, says: written, ...Object.fromEntries(about), over };
}

function textOf(value: unknown): string {
  if (value instanceof Date) return value.toISOString();
  return plain(Array.isArray(value) ? value.map(String).join(', ') : String(value), 512);
}

/** The entry as a policy of its own. @throws TuningError where it is none. */
function alone(request: TuneRequest): LoadedPolicy {
  if (request.reason.trim() === '' || request.reason.length > MAX_REASON)
    throw new TuningError(`reason: expected a text of 1 to ${MAX_REASON} characters`);
  if (request.kind === 'off' && !/^\d{1,10}:\d{1,10}$/.test(request.signature ?? ''))
    throw new TuningError('signature: expected a signature such as 1:21562: a rule is turned off by it');
  for (const [name, value] of Object.entries(limitOf(request)))
    if (typeof value === 'number' && !Number.isInteger(value))
      throw new TuningError(`${name}: expected a whole number`);
  const part = request.kind === 'limit' ? 'threshold' : 'suppress';
  const criteria = request.kind === 'off' ? { signature: request.signature } : criteriaOf(request);
  const text = JSON.stringify({ [part]: [{ name: 'tried', ...criteria, ...limitOf(request) }] });
  const policy = parsePolicy('the entry', text, -Infinity);
  if ('errors' in policy) throw new TuningError(policy.errors.map(withoutPlace).join('; '));
  const over = parsePolicy('the entry', text);
  if (!('errors' in over) && over.expired.length > 0) throw new TuningError('until: expected a time to come');
  return policy;
}

/** Nobody sees the text that was made of it. */
function withoutPlace(error: string): string {
  return error.replace(/^the entry:[\d:]* /, '').replace(/^(?:suppress|threshold)\[0\][.:]? ?/, '');
}

function criteriaOf({ signature, pod, source, destination, days, hours, until }: TuneRequest): object {
  return given({ signature, pod, source, destination, days, hours, until });
}

function limitOf({ kind, count = 1, seconds = 3600, track = 'by_source' }: TuneRequest): object {
  return kind === 'limit' ? { count, seconds, track, type: 'limit' } : {};
}

function given(values: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([key, value]) => (value === undefined || value === '' ? [] : [[key, value]])),
  );
}

/** `suppress-21562`, and with a number where that is taken: names are in metrics. */
function freeName({ kind, signature }: TuneRequest, taken: ReadonlySet<string>): string {
  const sid = /^\d{1,10}:(\d{1,10})$/.exec(signature ?? '')?.[1] ?? 'alerts';
  const base = `${kind}-${sid}`;
  if (!taken.has(base)) return base;
  let number = 2;
  while (taken.has(`${base}-${number}`)) number += 1;
  return `${base}-${number}`;
}

/** What a policy can't be is for who asked. */
async function refusing<T>(action: Promise<T>): Promise<T> {
  try {
    return await action;
  } catch (error) {
    throw error instanceof PolicyEditError ? new TuningError(error.message) : error;
  }
}
