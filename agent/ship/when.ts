/** Which events a sink takes: `when` of its configuration, in the words of a policy file. */
import type { When } from '../config/sinks.ts';
import { TACTICS } from '../events/tactics.ts';
import { isRecord } from '../files/record.ts';
import { globTester } from '../pattern.ts';

type Fields = Record<string, unknown>;
export type Takes = (event: Fields) => boolean;

/** All criteria that are given have to hold; of several values of one, any. An event without the field is not taken. */
export function createFilter(when: When): Takes {
  const criteria = [
    severityTest(when.severity),
    anyOf(when.namespace, (glob) => byGlob(glob, (event) => [resourceOf(event).split('/')[0] ?? ''])),
    anyOf(when.resource, (glob) => byGlob(glob, (event) => [resourceOf(event)])),
    anyOf(when.pod, (glob) => byGlob(glob, podsOf)),
    anyOf(when.signature, signatureTest),
    anyOf(when.class, classTest),
    anyOf(when.tactic, tacticTest),
  ].filter((test) => test !== undefined);
  return (event) => criteria.every((test) => test(event));
}

function severityTest(least: number | undefined): Takes | undefined {
  return least === undefined ? undefined : ({ severity }) => typeof severity === 'number' && severity >= least;
}

function anyOf(values: readonly string[] | undefined, createTest: (value: string) => Takes): Takes | undefined {
  if (values === undefined) return undefined;
  const tests = values.map(createTest);
  return (event) => tests.some((test) => test(event));
}

/** Of `<namespace>/<name>`, each part by itself: `*` is not for both. */
function byGlob(glob: string, textsOf: (event: Fields) => string[]): Takes {
  const parts = glob.split('/').map(globTester);
  return (event) =>
    textsOf(event).some((text) => {
      const given = text.split('/');
      return given.length === parts.length && parts.every((matches, index) => matches(given[index] ?? ''));
    });
}

function signatureTest(signature: string): Takes {
  const [sid = '', gid] = signature
    .split(':')
    .map((number) => String(Number(number)))
    .toReversed();
  return (event) => {
    const record = recordOf(event);
    return record['snort_signature_id'] === sid && (gid === undefined || record['generator_id'] === gid);
  };
}

/** By its short name or its text. */
function classTest(name: string): Takes {
  const wanted = name.toLowerCase();
  return (event) => {
    const { classification, classtype } = recordOf(event);
    return [classification, classtype].some((text) => typeof text === 'string' && text.toLowerCase() === wanted);
  };
}

/** By its id or its name: rules state either. */
function tacticTest(tactic: string): Takes {
  const wanted = tacticName(tactic);
  return (event) => typeof event['mitre_tactic'] === 'string' && tacticName(event['mitre_tactic']) === wanted;
}

export function tacticName(tactic: string): string {
  return (TACTICS[tactic.toUpperCase()] ?? tactic).toLowerCase().replaceAll(/[_-]/g, ' ');
}

function resourceOf({ origin }: Fields): string {
  return typeof origin === 'string' ? origin.replace(/^dpi\./, '') : '';
}

function podsOf(event: Fields): string[] {
  const seenAt: unknown = recordOf(event)['seen_at'];
  if (!Array.isArray(seenAt)) return [];
  return seenAt.flatMap((seen: unknown) =>
    isRecord(seen) ? [`${String(seen['namespace'])}/${String(seen['name'])}`] : [],
  );
}

function recordOf({ record }: Fields): Fields {
  return isRecord(record) ? record : {};
}
