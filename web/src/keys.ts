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
  move(by: 1 | -1): void;
  open(): void;
  close(): void;
  search(): void;
  choose(): void;
  mark(state: State): void;
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
  return document.querySelector('dialog[open]') === null;
}

function actionOf({ key, target }: KeyboardEvent, keys: Keys): (() => void) | undefined {
  const onControl = target instanceof HTMLElement && target.closest('a, button, summary, input') !== null;
  const actions: Record<string, () => void> = {
    j: () => keys.move(1),
    k: () => keys.move(-1),
    Escape: () => keys.close(),
    '/': () => keys.search(),
    x: () => keys.choose(),
    a: () => keys.mark('acknowledged'),
    d: () => keys.mark('dismissed'),
    o: () => keys.mark('open'),
    // On a link or a button it does what that one does.
    ...(onControl ? {} : { Enter: () => keys.open() }),
  };
  return actions[key];
}
