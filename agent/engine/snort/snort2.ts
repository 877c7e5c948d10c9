/**
 * What Snort 2 wrote and Snort 3 does not read, with what Snort 3 writes in its place.
 * Source: Snort 3's `snort2lua` and its list of rule options (`snort --list-modules`).
 */

const MODIFIER = (name: string): string => `content:"…", ${name}`;

const OPTIONS: Readonly<Record<string, string>> = {
  nocase: MODIFIER('nocase'),
  depth: MODIFIER('depth 5'),
  offset: MODIFIER('offset 5'),
  distance: MODIFIER('distance 5'),
  within: MODIFIER('within 5'),
  fast_pattern: MODIFIER('fast_pattern'),
  rawbytes: 'raw_data; before the content',
  uricontent: 'http_uri; content:"…"',
  urilen: 'http_uri; bufferlen:…',
  threshold: 'detection_filter, or a threshold of the policy (alerts.policy)',
  event_filter: 'detection_filter, or a threshold of the policy (alerts.policy)',
  appid: 'appids',
  protected_content: 'sha256:"…" or md5:"…"',
  activates: 'flowbits',
  activated_by: 'flowbits',
  count: 'tag',
  logto: 'nothing: where alerts go is not a matter of rules',
  session: 'nothing: packets of a flow are not printed',
  resp: 'the action reject',
  sameip: 'nothing like it',
  ftpbounce: 'nothing: the inspector ftp_server finds it',
};

const ACTIONS: Readonly<Record<string, string>> = {
  sdrop: 'drop',
  activate: 'alert with flowbits',
  dynamic: 'alert with flowbits',
};

const LINES: Readonly<Record<string, string>> = {
  var: 'ips.variables in Lua; here it is an entry of variables',
  ipvar: 'ips.variables in Lua; here it is an entry of variables',
  portvar: 'ips.variables in Lua; here it is an entry of variables',
  config: 'it in Lua (engine.extraConfig)',
  preprocessor: 'inspectors in Lua (engine.extraConfig)',
  dynamicpreprocessor: 'nothing like it',
  dynamicengine: 'nothing like it',
  dynamicdetection: 'nothing like it',
  output: 'it in Lua; what the agent reads is set by engine.output',
  ruletype: 'nothing like it',
  suppress: 'it in Lua; here it is an entry of the policy (alerts.policy)',
  event_filter: 'it in Lua; here it is an entry of the policy (alerts.policy)',
  threshold: 'it in Lua; here it is an entry of the policy (alerts.policy)',
  rate_filter: 'it in Lua (engine.extraConfig)',
};

function said(table: Readonly<Record<string, string>>, word: string): string | undefined {
  return Object.hasOwn(table, word) ? `Snort 2's syntax: Snort 3 writes ${table[word]}` : undefined;
}

/** Of an option of a rule. Undefined for what Snort 2 did not have, or Snort 3 has too. */
export const optionOfSnort2 = (key: string): string | undefined => said(OPTIONS, key);

/** Of a line of a file of rules, by its first word. */
export const lineOfSnort2 = (word: string): string | undefined => said(LINES, word);

/** With what Snort 3 writes, where an error of Snort 3 is about what Snort 2 wrote. */
export function withHint(reason: string): string {
  const hint = hintOf(reason);
  return hint === undefined ? reason : `${reason.replace(/\.$/, '')}: ${hint}`;
}

function hintOf(reason: string): string | undefined {
  const keyword = /^unknown rule keyword: (\w+)\.?$/.exec(reason)?.[1];
  if (keyword !== undefined) return optionOfSnort2(keyword);
  const action = /^unknown rule action '(\w+)'/.exec(reason)?.[1];
  if (action !== undefined) return said(ACTIONS, action);
  if (reason.startsWith('illegal direction specifier: <-')) return OTHER_WAY;
  return reason.startsWith('unable to parse pcre ') ? SEMICOLON : undefined;
}

export const OTHER_WAY = 'write it the other way round, with ->';
export const SEMICOLON = String.raw`where it has a semicolon, Snort 3 writes \x3b`;
