/** What keys do on the page. */
import { useEffect, useRef } from 'preact/hooks';
import type { State } from '../../agent/ui/api.ts';

/** Whether a key goes into a field, and is no shortcut. */
export function isTyping(event: KeyboardEvent): boolean {
  const { target } = event;
  const field = target instanceof HTMLInputElement && target.type !== 'checkbox';
  return field || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

export interface Keys {
  /** @param extend Chooses what is passed. */
  move(by: 1 | -1, extend: boolean): void;
  open(): void;
  close(): void;
  search(): void;
  choose(): void;
  chooseAll(): void;
  /** Only alerts of its signature. */
  alike(): void;
  mark(state: State): void;
  undo(): void;
}

export function useKeys(keys: Keys): void {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      const action = isShortcut(event) ? actionOf(event, latest.current) : undefined;
      if (action === undefined) return;
      event.preventDefault();
      action();
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  }, []);
}

function isShortcut(event: KeyboardEvent): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return false;
  return document.querySelector('dialog[open], :popover-open') === null;
}

function actionOf({ key, target, shiftKey }: KeyboardEvent, keys: Keys): (() => void) | undefined {
  const inside = (selector: string): boolean => target instanceof HTMLElement && target.closest(selector) !== null;
  const down = (): void => keys.move(1, shiftKey);
  const up = (): void => keys.move(-1, shiftKey);
  const actions: Record<string, () => void> = {
    j: down,
    J: down,
    k: up,
    K: up,
    Escape: () => keys.close(),
    '/': () => keys.search(),
    x: () => keys.choose(),
    '*': () => keys.chooseAll(),
    s: () => keys.alike(),
    t: () => pressInDetail('t'),
    i: () => pressInDetail('i'),
    a: () => keys.mark('acknowledged'),
    d: () => keys.mark('dismissed'),
    o: () => keys.mark('open'),
    u: () => keys.undo(),
    // There they scroll.
    ...(inside('.detail, .filters') ? {} : { ArrowDown: down, ArrowUp: up }),
    // On a link or a button it does what that one does.
    ...(inside('a, button, summary, input') ? {} : { Enter: () => keys.open() }),
  };
  return actions[key];
}

/** Of the alert that is open. */
function pressInDetail(key: string): void {
  document.querySelector<HTMLElement>(`.detail [aria-keyshortcuts="${key}"]`)?.click();
}
