/** Whether a key goes into a field, and is no shortcut. */
export function isTyping(event: KeyboardEvent): boolean {
  const { target } = event;
  const field = target instanceof HTMLInputElement && target.type !== 'checkbox';
  return field || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}
