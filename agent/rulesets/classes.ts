/**
 * Classes of rules (`classtype`) and types of references, as `classification.config` and `reference.config` define
 * them, with what is known without such files.
 *
 * Formats, both engines': `config classification: <name>,<text>,<priority>` and `config reference: <type> <prefix of a
 * URL>`, a line each, `#` comments.
 */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { decodeRules } from './encoding.ts';
import type { RuleClass, RuleInfo } from './rule.ts';

export interface RuleVocabulary {
  /** By the class's short name, in lower case. */
  classes: ReadonlyMap<string, RuleClass>;
  /** What stands before an id to make a link of it, by the type in lower case. */
  references: ReadonlyMap<string, string>;
}

const CLASSES: Record<string, [text: string, priority: number]> = {
  'attempted-admin': ['Attempted Administrator Privilege Gain', 1],
  'attempted-dos': ['Attempted Denial of Service', 2],
  'attempted-recon': ['Attempted Information Leak', 2],
  'attempted-user': ['Attempted User Privilege Gain', 1],
  'bad-unknown': ['Potentially Bad Traffic', 2],
  'client-side-exploit': ['Known client side exploit attempt', 1],
  'coin-mining': ['Crypto Currency Mining Activity Detected', 2],
  'command-and-control': ['Malware Command and Control Activity Detected', 1],
  'credential-theft': ['Successful Credential Theft Detected', 1],
  'default-login-attempt': ['Attempt to login by a default username and password', 2],
  'denial-of-service': ['Detection of a Denial of Service Attack', 2],
  'domain-c2': ['Domain Observed Used for C2 Detected', 1],
  'exploit-kit': ['Exploit Kit Activity Detected', 1],
  'external-ip-check': ['Device Retrieving External IP Address Detected', 2],
  'file-format': ['Known malicious file or file based exploit', 1],
  'icmp-event': ['Generic ICMP event', 3],
  'inappropriate-content': ['Inappropriate Content was Detected', 1],
  'malware-cnc': ['Known malware command and control traffic', 1],
  'misc-activity': ['Misc activity', 3],
  'misc-attack': ['Misc Attack', 2],
  'network-scan': ['Detection of a Network Scan', 3],
  'non-standard-protocol': ['Detection of a non-standard protocol or event', 2],
  'not-suspicious': ['Not Suspicious Traffic', 3],
  'policy-violation': ['Potential Corporate Privacy Violation', 1],
  'protocol-command-decode': ['Generic Protocol Command Decode', 3],
  'pup-activity': ['Possibly Unwanted Program Detected', 2],
  'rpc-portmap-decode': ['Decode of an RPC Query', 2],
  sdf: ['Sensitive Data was Transmitted Across the Network', 2],
  'shellcode-detect': ['Executable code was detected', 1],
  'social-engineering': ['Possible Social Engineering Attempted', 2],
  'string-detect': ['A suspicious string was detected', 3],
  'successful-admin': ['Successful Administrator Privilege Gain', 1],
  'successful-dos': ['Denial of Service', 2],
  'successful-recon-largescale': ['Large Scale Information Leak', 2],
  'successful-recon-limited': ['Information Leak', 2],
  'successful-user': ['Successful User Privilege Gain', 1],
  'suspicious-filename-detect': ['A suspicious filename was detected', 2],
  'suspicious-login': ['An attempted login using a suspicious username was detected', 2],
  'system-call-detect': ['A system call was detected', 2],
  'targeted-activity': ['Targeted Malicious Activity was Detected', 1],
  'tcp-connection': ['A TCP connection was detected', 4],
  'trojan-activity': ['A Network Trojan was detected', 1],
  unknown: ['Unknown Traffic', 3],
  'unsuccessful-user': ['Unsuccessful User Privilege Gain', 1],
  'unusual-client-port-connection': ['A client was using an unusual port', 2],
  'web-application-activity': ['access to a potentially vulnerable web application', 2],
  'web-application-attack': ['Web Application Attack', 1],
};

/** Only sites that still answer; the engines' own files name several that don't. */
const REFERENCES: Record<string, string> = {
  bid: 'https://www.securityfocus.com/bid/',
  bugtraq: 'https://www.securityfocus.com/bid/',
  cve: 'https://nvd.nist.gov/vuln/detail/CVE-',
  et: 'https://doc.emergingthreats.net/',
  exploitdb: 'https://www.exploit-db.com/exploits/',
  md5: 'https://www.virustotal.com/gui/file/',
  msb: 'https://technet.microsoft.com/en-us/security/bulletin/',
  msft: 'https://technet.microsoft.com/en-us/security/bulletin/',
  nessus: 'https://www.tenable.com/plugins/nessus/',
  sha256: 'https://www.virustotal.com/gui/file/',
  url: 'http://',
  xforce: 'https://exchange.xforce.ibmcloud.com/vulnerabilities/',
};

export const BUILT_IN_VOCABULARY: RuleVocabulary = {
  classes: new Map(Object.entries(CLASSES).map(([name, [text, priority]]) => [name, { text, priority }])),
  references: new Map(Object.entries(REFERENCES)),
};

/** What defines classes, beside rule files and in the engines' folders. */
export const CLASSES_FILE = 'classification.config';
/** Likewise types of references. */
export const REFERENCES_FILE = 'reference.config';
const MAX_FILE_BYTES = 1 << 20;
const MAX_ENTRIES = 10_000;

/** The classes that a text defines, later ones over earlier ones; other lines are passed over. */
export function parseClasses(text: string): Map<string, RuleClass> {
  const classes = new Map<string, RuleClass>();
  for (const match of text.matchAll(
    /^[ \t]*config[ \t]*classification[ \t]*:([^,\r\n]*),([^\r\n]*),[ \t]*(\d{1,3})[ \t]*\r?$/gm,
  )) {
    const [, name = '', description = '', priority = ''] = match;
    if (classes.size < MAX_ENTRIES && name.trim() !== '') {
      classes.set(name.trim().toLowerCase(), { text: description.trim(), priority: Number(priority) });
    }
  }
  return classes;
}

/** Likewise the types of references. */
export function parseReferenceTypes(text: string): Map<string, string> {
  const references = new Map<string, string>();
  for (const match of text.matchAll(
    /^[ \t]*config[ \t]+reference[ \t]*:[ \t]*(\S{1,64})[ \t]+(https?:\/\/\S{0,256})[ \t]*\r?$/gm,
  )) {
    const [, type = '', prefix = ''] = match;
    if (references.size < MAX_ENTRIES) references.set(type.toLowerCase(), prefix);
  }
  return references;
}

/**
 * What the engine's and the operator's files say, over what is built in. An engine's `reference.config` only adds
 * types, because many of its sites are gone; the operator's files count before all.
 * @param engine Folder of the engine's own files. @param own Folders of the operator's, later ones over earlier ones.
 * Files that are not there count for nothing.
 */
export function loadVocabulary(engine: string | undefined, own: readonly string[]): RuleVocabulary {
  const engines = engine === undefined ? [] : [engine];
  const classes = [...engines, ...own].map((directory) => parseClasses(readSmall(join(directory, CLASSES_FILE))));
  const references = (directory: string): Map<string, string> =>
    parseReferenceTypes(readSmall(join(directory, REFERENCES_FILE)));
  return {
    classes: new Map([BUILT_IN_VOCABULARY.classes, ...classes].flatMap((map) => [...map])),
    references: new Map(
      [...engines.map(references), BUILT_IN_VOCABULARY.references, ...own.map(references)].flatMap((map) => [...map]),
    ),
  };
}

/** A text, in any encoding that rules may have; empty where there is none that is small enough. */
function readSmall(path: string): string {
  try {
    const { size } = statSync(path);
    const decoded = size > MAX_FILE_BYTES ? undefined : decodeRules(readFileSync(path));
    return decoded !== undefined && 'text' in decoded ? decoded.text : '';
  } catch {
    return '';
  }
}

/** What a file says of classes; none where there is no such file. */
export function readClasses(path: string): Map<string, RuleClass> {
  return parseClasses(readSmall(path));
}

/** Likewise of types of references. */
export function readReferenceTypes(path: string): Map<string, string> {
  return parseReferenceTypes(readSmall(path));
}

/** A rule's class, as its own set defines it before all others; undefined where nobody knows it. */
export function classOf(
  { classtype, ownClass }: Pick<RuleInfo, 'classtype' | 'ownClass'>,
  { classes }: RuleVocabulary,
): RuleClass | undefined {
  return ownClass ?? classes.get(classtype.toLowerCase());
}

/**
 * A reference as a link, where its type has one: http or https, printable ASCII.
 * @param own What the rule's own set says of types, before all others.
 */
export function linkOf(
  { type, id }: { type: string; id: string },
  { references }: RuleVocabulary,
  own: Readonly<Record<string, string>> = {},
): string | undefined {
  const kind = type.toLowerCase();
  const prefix = Object.hasOwn(own, kind) ? own[kind] : references.get(kind);
  if (prefix === undefined) return undefined;
  const rest = kind === 'cve' ? id.replace(/^cve-/i, '') : id;
  const text = kind === 'url' && /^https?:\/\//i.test(rest) ? rest : `${prefix}${rest}`;
  if (!/^[\x21-\x7e]+$/.test(text) || !URL.canParse(text)) return undefined;
  return text;
}
