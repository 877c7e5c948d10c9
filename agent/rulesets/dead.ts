/** Which rules can't match by the variables that their headers name. */
import { describeNames, leftOf, type VariableKind, type Variables } from '../rule-variables.ts';

/**
 * Why a rule can't match: a variable is not defined, or leaves nothing. Undefined where it can, and for what no
 * variable decides.
 */
export function whyDead(header: string, variables: Variables): string | undefined {
  if (!header.includes('$')) return undefined;
  for (const [what, kind, text] of sidesOf(header)) {
    if (!text.includes('$')) continue;
    const left = leftOf(text, kind, variables);
    if (left.is === 'undefined') return howToDefine(left.name, kind);
    if (left.is !== 'nothing') continue;
    const names = [...new Set([...text.matchAll(/\$(\w+)/g)].map(([, name = '']) => `variables.${name}`))];
    const why = describeNames(text, variables[kind]);
    return `it can match nothing: the ${what} ${text} leaves no ${kind}, as ${why}: set ${names.join(' or ')}`;
  }
  return undefined;
}

function howToDefine(name: string, kind: VariableKind): string {
  const example = kind === 'ports' ? '8080' : '10.0.0.0/8';
  return `$${name} is not defined: set variables.${name} to ${kind} (variables: { ${name}: ${example} })`;
}

/** Addresses and ports of a header; none of one that has none. */
function sidesOf(header: string): (readonly [what: string, kind: VariableKind, text: string])[] {
  const words = headerWords(header);
  const [, , source, sourcePorts, , destination, destinationPorts] = words;
  if (words.length !== 7) return [];
  return [
    ['source', 'addresses', source ?? ''],
    ['source port', 'ports', sourcePorts ?? ''],
    ['destination', 'addresses', destination ?? ''],
    ['destination port', 'ports', destinationPorts ?? ''],
  ];
}

/** Words at white space, except that between brackets, which is dropped. */
export function headerWords(text: string): string[] {
  const words: string[] = [];
  let word = '';
  let depth = 0;
  for (const character of text) {
    if (character === '[') depth += 1;
    if (character === ']') depth -= 1;
    if (character !== ' ') word += character;
    else if (depth <= 0 && word !== '') {
      words.push(word);
      word = '';
    }
  }
  if (word !== '') words.push(word);
  return words;
}
