/** Rules that are turned off one by one, in the operator's file of changes: a line each, with a comment about it. */
import { withChange } from '../rulesets/changes.ts';
import type { Tuned } from './entry.ts';

const LINE = /^\s*disable\s+(\d{1,10}:\d{1,10})\s*(?:#\s*(.*))?$/;
/** `why (by whom, when)`, as it is written here. */
const ABOUT = /^(.*) \(by (.*), (\d{4}-\d\d-\d\dT[\d:.]+Z)\)$/;

export function offName(signature: string): string {
  return `off-${signature.replace(':', '-')}`;
}

/** @param signature `<gid>:<sid>` */
export function withRuleOff(
  text: string,
  signature: string,
  { reason, by, at }: { reason: string; by: string; at: string },
): string {
  const kept = without(withChange(text, 'disable', signature), signature);
  return `${kept}disable ${signature} # ${reason} (by ${by}, ${at})\n`;
}

export function offRules(text: string): Tuned[] {
  return text.split('\n').flatMap((line): Tuned[] => {
    const [, signature, comment = ''] = LINE.exec(line.trimEnd()) ?? [];
    if (signature === undefined) return [];
    const [, reason = comment, by, at] = ABOUT.exec(comment) ?? [];
    return [
      {
        name: offName(signature),
        kind: 'off',
        says: { signature },
        ...(reason === '' ? {} : { reason }),
        ...(by === undefined ? {} : { by }),
        ...(at === undefined ? {} : { at }),
        over: false,
      },
    ];
  });
}

/** Without the line that turns it off. */
export function withoutOff(text: string, name: string): string {
  const found = offRules(text).find((rule) => rule.name === name);
  return found === undefined ? text : without(text, found.says['signature'] ?? '');
}

function without(text: string, signature: string): string {
  return text
    .split(/(?<=\n)/)
    .filter((line) => LINE.exec(line.trimEnd())?.[1] !== signature)
    .join('');
}
