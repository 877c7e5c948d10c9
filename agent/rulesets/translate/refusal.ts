/** Why a rule is not translated. It never leaves this folder: `translateRule` makes a reason of it. */
export class Refusal extends Error {}

export function refuse(reason: string): never {
  throw new Refusal(reason);
}

/** Text of a rule for a reason: short, printable. */
export function shown(text: string): string {
  return JSON.stringify(text.slice(0, 60));
}
