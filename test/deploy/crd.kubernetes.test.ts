/** The CRDs on a real API server: which selectors they refuse and how, and what they show of a status. */
import { beforeAll, describe, expect } from '@jest/globals';
import * as fc from 'fast-check';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseSelector, printSelector, SelectorError } from '../../agent/kube/selector/selector.ts';
import type { ResourceStatus } from '../../agent/kube/resources.ts';
import { pieces, selectors } from '../kube/selector/support.ts';
import { describeKubernetes, testOnOwnServer, useControlPlane } from '../support/kubernetes.ts';
import { DEPLOY } from './support.ts';

/** Every one is valid in Calico (libcalico-go/lib/selector). */
const VALID = [
  'all()',
  'all( )',
  'global()',
  'has(app)',
  'has( app )',
  '!has(app)',
  '! ! has(app)',
  'app == "backend"',
  "app=='backend'",
  'app != ""',
  '!app == "x"',
  `app in {'b',"c"}`,
  'app in { "b" , "c" , }',
  'app in {}',
  'app in{"b"}',
  'app not in {"b"}',
  'app notin{"b"}',
  'app not \t in {"b"}',
  'app contains "b"',
  'app contains"b"',
  'app starts with "b"',
  'app startswith "b"',
  'app starts  with"b"',
  'app ends with "b"',
  'app endswith "b"',
  `quotes == "it's"`,
  `quotes == 'say "x"'`,
  `a == "= & | ; ( é \n {"`,
  `a == ')' && (b == "(" || b == ")")`,
  'app.kubernetes.io/name == "x"',
  'projectcalico.org/namespace == "default"',
  '-_./9 == "x"',
  'in in {"in"}',
  'has == "x" && not in {"x"} || all == "x"',
  'not not in {"x"}',
  'a == "x"&&b == "y"||c == "z"',
  '((a == "x"))',
  '!(a == "x" || !(b in {"y"} && has(c)))',
  '  a == "x"\t',
  `${'('.repeat(90)}all()${')'.repeat(90)}`,
  `${'l'.repeat(512)} == "x"`,
  Array.from({ length: 4000 }, (_, index) => `a == "${index}"`).join('||'),
  `a == "${'é'.repeat(65_000)}"`,
];

const BLANK = 'blank: write for example app == "backend", or all() for every pod of the namespace';
const QUOTE = 'a quote is not closed: write for example app == "backend"';
const CHARACTERS =
  'outside of quotes, only letters A-Z, digits, spaces and _ . / - ( ) { } , = ! & | can stand, in one line: write for example app == "backend"';
const DOUBLE = '= is written ==, and & and | are written && and ||: for example app == "backend" && tier != "web"';
const GRAMMAR =
  'not a selector: comparisons are written, with their values in quotes, app == "backend", app != "backend", app in {"a", "b"}, ' +
  'app not in {"a"}, app contains "a", app starts with "a", app ends with "a", has(app), all() or global(), joined by && or ||';
const END = 'ends with && or ||: write a comparison behind it, for example app == "backend" && tier == "web"';
const PARENTHESES = 'parentheses do not match: write for example (app == "a" || app == "b") && has(tier)';

const INVALID: [string, ...string[]][] = [
  [' ', BLANK],
  ['\t \t', BLANK],
  ['\n', BLANK, CHARACTERS],
  ['app == "backend', QUOTE],
  [`app == "backend'`, QUOTE],
  [`app == "it's" && tier == 'x`, QUOTE],
  ['app == "backend"\n', CHARACTERS],
  ['app == "a" &&\ntier == "b"', CHARACTERS],
  ['app == “backend”', CHARACTERS],
  ['app:backend', CHARACTERS],
  ['app == "x"; all()', CHARACTERS],
  ['app == "a" \\', CHARACTERS],
  ['app = "backend"', DOUBLE],
  ['app=backend', DOUBLE],
  ['app === "backend"', DOUBLE],
  ['app == "a" & tier == "b"', DOUBLE],
  ['app == "a" | tier == "b"', DOUBLE],
  ['app == "a" && tier = "b"', DOUBLE],
  ['app == backend', GRAMMAR],
  ['app', GRAMMAR],
  ['"app" == "backend"', GRAMMAR],
  ['app in (a, b)', GRAMMAR],
  ['app in {"a" "b"}', GRAMMAR],
  ['app in {,}', GRAMMAR],
  ['app in {"a"', GRAMMAR],
  ['app in "a"', GRAMMAR],
  ['app is "a"', GRAMMAR],
  ['app starts "a"', GRAMMAR],
  ['has(app', GRAMMAR, PARENTHESES],
  ['has (app)', GRAMMAR],
  ['has("app")', GRAMMAR],
  ['has()', GRAMMAR],
  ['all', GRAMMAR],
  ['all(app)', GRAMMAR],
  ['!', GRAMMAR],
  ['()', GRAMMAR],
  ['&& all()', GRAMMAR],
  ['all() all()', GRAMMAR],
  ['all() and all()', GRAMMAR],
  ['(all() &&) all()', GRAMMAR],
  ['all() &&', END],
  ['all() || ', END],
  ['(all()', PARENTHESES],
  ['all())', PARENTHESES],
  ['(app == "a" && (tier == "b" || has(c))', PARENTHESES],
];

describeKubernetes(() => {
  const cluster = useControlPlane();
  const kubectl = (...args: string[]): string => cluster().kubectl(...args);
  beforeAll(() => {
    for (const group of ['projectcalico.org', 'crd.projectcalico.org']) {
      kubectl('apply', '-k', join(DEPLOY, 'crds', group));
      const crd = `crd/deeppacketinspections.${group}`;
      kubectl('wait', '--for=condition=Established', crd, '--timeout=300s');
    }
  });

  // That the other CRD has the same schema is a unit test's matter.
  describe('a resource', () => {
    /** The messages about each selector that is refused. */
    function refusals(texts: readonly string[], apiVersion = 'projectcalico.org/v3'): Map<string, string[]> {
      const file = join(cluster().directory, 'selectors.json');
      const items = texts.map((selector, index) => ({
        apiVersion,
        kind: 'DeepPacketInspection',
        metadata: { name: `s-${index}`, namespace: 'default' },
        spec: { selector },
      }));
      writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
      try {
        kubectl('create', '--dry-run=server', '-o', 'name', '-f', file);
        return new Map();
      } catch (error) {
        const answer = error instanceof Error ? error.message : String(error);
        const found = new Map<string, string[]>();
        // One line for each, or one for each message when it is the only one.
        for (const [, index, what = ''] of answer.matchAll(/"s-(\d+)" is invalid: ([^]*?)(?=\nError from server|$)/g)) {
          const messages = what.matchAll(
            /spec\.selector: (?:Invalid value: "string": )?(.*?)(?=, spec\.selector: |\]?$)/gm,
          );
          found.set(
            texts[Number(index)] ?? '',
            [...messages].map((match) => match[1] ?? ''),
          );
        }
        if (found.size === 0) throw error;
        return found;
      }
    }

    testOnOwnServer('is accepted with every form of a selector', () => {
      for (const text of VALID) expect(() => parseSelector(text)).not.toThrow();
      expect([...refusals(VALID).keys()]).toEqual([]);
    });

    testOnOwnServer('is refused with a text that is no selector, by a message that says what is wrong', () => {
      for (const [text] of INVALID.filter(([, message]) => message !== BLANK)) {
        expect(() => parseSelector(text)).toThrow(SelectorError);
      }
      const found = refusals(INVALID.map(([text]) => text));
      expect([...found]).toEqual(INVALID.map(([text, ...messages]) => [text, messages]));
    });

    testOnOwnServer('is refused without a selector, and with one that is empty, too long or no text', () => {
      expect([...refusals([''])]).toEqual([
        ['', ['Invalid value: "": spec.selector in body should be at least 1 chars long', BLANK]],
      ]);
      const long = `a == "${'x'.repeat(65_536)}"`;
      expect([...refusals([long])]).toEqual([[long, ['Too long: may not be more than 65536 bytes']]]);
      const create = (spec: object): string => {
        const file = join(cluster().directory, 'one.json');
        const metadata = { name: 'one', namespace: 'default' };
        writeFileSync(
          file,
          JSON.stringify({ apiVersion: 'projectcalico.org/v3', kind: 'DeepPacketInspection', metadata, ...spec }),
        );
        return kubectl('create', '--validate=ignore', '--dry-run=server', '-f', file);
      };
      expect(() => create({})).toThrow('spec: Required value');
      expect(() => create({ spec: {} })).toThrow('spec.selector: Required value');
      expect(() => create({ spec: { selector: true } })).toThrow('must be of type string');
    });

    testOnOwnServer('of crd.projectcalico.org/v1 is looked at in the same way', () => {
      const found = refusals(['app = "backend"', 'app == "backend"'], 'crd.projectcalico.org/v1');
      expect([...found]).toEqual([['app = "backend"', [DOUBLE]]]);
    });

    testOnOwnServer('is never refused with a selector that the agent reads', () => {
      const printed = fc.sample(selectors, { numRuns: 200, seed: 4 }).map(printSelector);
      const random = fc
        .sample(fc.array(pieces, { maxLength: 8 }), { numRuns: 3000, seed: 5 })
        .map((all) => all.join(' '));
      const broken = fc
        .sample(fc.tuple(fc.constantFrom(...printed), fc.nat(), fc.nat(2), pieces), { numRuns: 600, seed: 6 })
        .map(([text, at, drop, piece]) => {
          const start = at % (text.length + 1);
          return text.slice(0, start) + piece + text.slice(start + drop);
        });
      const [read, unread] = partition([...printed, ...random, ...broken], isRead);
      const some = (texts: string[]): string[] =>
        [...new Set(texts)].filter((text) => text.trim() !== '').slice(0, 150);
      expect(some(read).length).toBe(150);
      expect([...refusals(some(read))]).toEqual([]);

      // Of the others it lets few pass: those whose parentheses match in number only.
      const wrong = some(unread);
      const refused = refusals(wrong);
      const passed = wrong.filter((text) => !refused.has(text));
      expect(passed.filter((text) => !/[()]/.test(text))).toEqual([]);
    });
  });

  describe('a status', () => {
    const status: ResourceStatus = {
      nodesActive: 1,
      podsCaptured: 3,
      errors: 1,
      nodes: [
        {
          node: 'node-1',
          active: { success: true, lastUpdated: '2026-01-02T03:04:05Z' },
          podsSelected: 4,
          podsCaptured: 3,
          resolvers: { calico: 2, route: 1 },
          errorConditions: [{ message: 'default/backend-1: no interface', timestamp: '2026-01-02T03:04:05Z' }],
        },
      ],
    };
    const write = (value: object): string =>
      kubectl('patch', NAME, 'shown', '--subresource=status', '--type=merge', '-p', JSON.stringify({ status: value }));
    beforeAll(() => {
      cluster().apply({
        apiVersion: 'projectcalico.org/v3',
        kind: 'DeepPacketInspection',
        metadata: { name: 'shown', namespace: 'default' },
        spec: { selector: 'app == "backend"' },
      });
    });

    testOnOwnServer('is in the columns of kubectl get, which are empty before there is one', () => {
      const row = (): string[] =>
        kubectl('get', NAME, '-A')
          .trim()
          .split('\n')
          .map((line) => line.replaceAll(/ {2,}/g, '|'));
      expect(row()[0]).toBe('NAMESPACE|NAME|SELECTOR|NODES|PODS|ERRORS|AGE');
      expect(row()[1]).toMatch(/^default\|shown\|app == "backend"\|\d+s$/);
      write(status);
      expect(row()[1]).toMatch(/^default\|shown\|app == "backend"\|1\|3\|1\|\d+s$/);
    });

    testOnOwnServer('is kept as the agent writes it, also what others add', () => {
      const [node] = status.nodes ?? [];
      const more = { ...status, nodes: [{ ...node, extra: 1 }, { node: 'node-2' }], extra: { a: ['b'] } };
      write(more);
      const read = JSON.parse(kubectl('get', NAME, 'shown', '-n', 'default', '-o', 'json')) as { status: unknown };
      expect(read.status).toEqual(more);
    });

    testOnOwnServer('has entries with the name of a node and with times', () => {
      expect(() => write({ nodes: [{ active: { success: true } }] })).toThrow('status.nodes[0].node: Required value');
      expect(() => write({ nodes: [{ node: 'a', active: { lastUpdated: 'now' } }] })).toThrow('date-time');
    });
  });
});

const NAME = 'deeppacketinspections.v3.projectcalico.org';

function isRead(text: string): boolean {
  try {
    parseSelector(text);
    return true;
  } catch {
    return false;
  }
}

function partition<T>(items: T[], test: (item: T) => boolean): [T[], T[]] {
  return [items.filter(test), items.filter((item) => !test(item))];
}
