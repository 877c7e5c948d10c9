/** Shows a box below what opens it, inside of the window, and goes into it. */
export function showBelow(box: HTMLElement | null, opener: HTMLElement | null): void {
  const place = opener?.getBoundingClientRect();
  if (box === null || place === undefined) return;
  box.showPopover();
  box.style.left = `${Math.max(8, Math.min(place.left, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${Math.max(8, Math.min(place.bottom + 4, innerHeight - box.offsetHeight - 8))}px`;
  box.querySelector<HTMLElement>('input, button')?.focus();
}
