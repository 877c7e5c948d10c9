import { describe, expect, test } from '@jest/globals';
import { createSelect, whyNotInspected } from '../../agent/endpoints/select.ts';
import { mismatch } from '../../agent/endpoints/mismatch.ts';
import { parseSelector } from '../../agent/kube/selector/selector.ts';
import { aPod, aResource } from '../support/kube-objects.ts';

describe('selection', () => {
  test('a resource selects pods of its own namespace only', () => {
    const selection = createSelect()(
      [aResource('shop/dpi', 'app == "backend"')],
      [aPod('shop/one'), aPod('shop/two', { labels: { app: 'other' } }), aPod('bank/one')],
    );
    expect([...selection.pods.keys()]).toEqual(['shop/one']);
    expect(selection.resources.get('shop/dpi')).toEqual({ pods: ['shop/one'] });
  });

  test('a pod that several resources select is there once, with all of them', () => {
    const selection = createSelect()(
      [aResource('shop/a', 'all()'), aResource('shop/b', 'app == "backend"')],
      [aPod('shop/one')],
    );
    expect(selection.pods.get('shop/one')?.resources).toEqual(['shop/a', 'shop/b']);
  });

  test.each(['', '  ', 'app =', 'app == "x" &&'])(
    'a selector that is none (%p) selects nothing and says so',
    (selector) => {
      const selection = createSelect()(
        [aResource('shop/bad', selector), aResource('shop/good', 'all()')],
        [aPod('shop/one')],
      );
      expect(selection.resources.get('shop/bad')).toEqual({
        pods: [],
        error: expect.stringMatching(/^spec\.selector: column \d+: /),
      });
      expect(selection.resources.get('shop/good')).toEqual({ pods: ['shop/one'] });
    },
  );

  test('labels that Calico adds can be selected by', () => {
    const select = createSelect();
    const selects = (selector: string): boolean =>
      select([aResource('shop/dpi', selector)], [aPod('shop/one', { serviceAccount: 'robot' })]).pods.size === 1;
    expect(selects(`projectcalico.org/serviceaccount == 'robot'`)).toBe(true);
    expect(selects(`projectcalico.org/namespace == 'bank'`)).toBe(false);
    expect(selects(`projectcalico.org/orchestrator == 'k8s'`)).toBe(true);
  });

  test.each([
    [{ hostNetwork: true }, /node's network/],
    [{ phase: 'Succeeded' }, /has ended/],
    [{ phase: 'Failed' }, /has ended/],
    [{ addresses: [] }, /no address/],
    [{ node: '' }, /not scheduled/],
  ] as const)('a pod with %j is not inspected', (fields, why) => {
    const pod = aPod('shop/one', fields as object);
    expect(whyNotInspected(pod)).toMatch(why);
    expect(createSelect()([aResource('shop/dpi', 'all()')], [pod]).pods.size).toBe(0);
  });

  test('a pod that ends, or is not ready, is inspected as long as it runs', () => {
    const pods = [aPod('shop/one', { terminating: true }), aPod('shop/two', { ready: false, phase: 'Pending' })];
    expect(createSelect()([aResource('shop/dpi', 'all()')], pods).pods.size).toBe(2);
  });
});

describe('why a selector does not select', () => {
  test.each([
    ['app == "x"', 'not app == "x": app is "backend"'],
    ['app == "backend" && tier in {"a", "b"}', 'not tier in {"a", "b"}: tier is absent'],
    ['app != "backend"', 'not app != "backend": app is "backend"'],
    ['!has(app)', 'not !has(app): app is "backend"'],
    ['app == "x" || tier == "y"', 'not app == "x" || tier == "y"'],
    ['app == "backend"', undefined],
  ])('%s: %s', (selector, why) => {
    expect(mismatch(parseSelector(selector), { app: 'backend' })).toBe(why);
  });
});
