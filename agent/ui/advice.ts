/**
 * What to check and what to do about an alert, by the rule's class and by technique (MITRE ATT&CK). Written for this
 * project: short, for pods in a cluster, and no more than where to begin.
 */
import type { Advice } from './api.ts';

const MOST = 6;

/** @param classtype The class's short name. @param techniques `T1071.001` */
export function adviceFor(classtype: string, techniques: readonly string[]): Advice {
  const found = [
    ...techniques.flatMap((technique) => BY_TECHNIQUE[technique] ?? BY_TECHNIQUE[technique.split('.')[0] ?? ''] ?? []),
    ...(BY_CLASS[classtype.toLowerCase()] ?? []),
  ];
  const all = found.length > 0 ? found : [UNKNOWN];
  const distinct = (lists: readonly (readonly string[])[]): string[] => [...new Set(lists.flat())].slice(0, MOST);
  return { check: distinct(all.map(({ check }) => check)), act: distinct(all.map(({ act }) => act)) };
}

const ISOLATE =
  'Isolate the pod by a NetworkPolicy that denies egress, and keep it running until its evidence is saved.';
const REPLACE = 'Replace the pod from an image that is known to be clean; look for others of the same image.';
const ROTATE = 'Rotate the credentials that the pod had: service account token, mounted secrets, keys of clouds.';

const UNKNOWN: Advice = {
  check: [
    'Does the payload show what the rule looks for, or something that only looks like it?',
    'Is the source one that should talk to this pod at all?',
  ],
  act: ['If it is expected, dismiss it with a reason, and tune the rule for this pod and source.'],
};

const COMMAND_AND_CONTROL: Advice = {
  check: [
    'Was the connection answered, and how many bytes came back?',
    'Which process in the pod opened it, and since when does it call that address? Look for a steady interval.',
    'Do other pods talk to the same address, domain or JA4?',
  ],
  act: [ISOLATE, 'Block the address and the domain at the egress of the cluster.', REPLACE, ROTATE],
};

const EXPLOIT: Advice = {
  check: [
    'How did the server answer: an error, or content that it should not give?',
    'Is the version in the pod affected by the CVE that the rule names?',
    'Did the pod start a connection of its own soon after?',
  ],
  act: ['Update the software, or put a filter before it.', 'If it was answered, treat the pod as taken over.', ISOLATE],
};

const SCAN: Advice = {
  check: [
    'Is the source a scanner or a monitor of your own?',
    'From inside: why does that pod look around? From outside: what of it was answered?',
    'Which alerts of other kinds has the same source?',
  ],
  act: [
    'From inside the cluster: look at the pod that scans first.',
    'Limit or suppress a scanner of your own by its source.',
  ],
};

const CREDENTIALS: Advice = {
  check: [
    'Whose credential is it, and is it still valid?',
    'Was it used from another address since?',
    'Why did it cross the network in the clear?',
  ],
  act: [ROTATE, 'Make the connection TLS, and give the pod the least rights that it needs.'],
};

const MINING: Advice = {
  check: [
    'How much CPU has the pod used since, and what runs in it?',
    'How did it come in: image, exposed service, or a token of the cluster?',
  ],
  act: [ISOLATE, 'Block ports and domains of mining pools at the egress.', REPLACE],
};

const DENIAL: Advice = {
  check: [
    'Did the service slow down, or restart, at that time?',
    'Is it one source, or many; is its address likely to be forged?',
  ],
  act: ['Limit requests of a source at the ingress.', 'Scale, or shed what can be shed, until it is over.'],
};

const LATERAL: Advice = {
  check: [
    'Should these two workloads talk to each other by this protocol?',
    'What did the source pod do before: an alert from outside, a new process?',
  ],
  act: ['Deny this traffic by a NetworkPolicy between the namespaces.', ISOLATE, ROTATE],
};

const EXFILTRATION: Advice = {
  check: [
    'How many bytes left, to where, and does anything of yours belong there?',
    'Which data can the pod read: volumes, databases, secrets?',
  ],
  act: [ISOLATE, 'Tell who owns the data what may have left.', ROTATE],
};

const POLICY: Advice = {
  check: ['Is it allowed here: by whom, and for how long?', 'Is it this pod only, or all of its kind?'],
  act: [
    'If it is allowed, dismiss it with a reason and tune the rule for the pod.',
    'If not, tell the owner of the workload.',
  ],
};

const NOISE: Advice = {
  check: ['Is there another alert of the same flow or source, that it belongs to?'],
  act: ['By itself it is seldom worth more: limit it, or turn the rule off.'],
};

const PHISHING: Advice = {
  check: ['Was the file or page loaded to its end, and what opened it?', 'What is known of its hash and its domain?'],
  act: ['Block the domain.', REPLACE],
};

const BY_CLASS: Record<string, readonly Advice[]> = {
  'trojan-activity': [COMMAND_AND_CONTROL],
  'malware-cnc': [COMMAND_AND_CONTROL],
  'command-and-control': [COMMAND_AND_CONTROL],
  'domain-c2': [COMMAND_AND_CONTROL],
  'targeted-activity': [COMMAND_AND_CONTROL],
  'exploit-kit': [EXPLOIT, PHISHING],
  'client-side-exploit': [EXPLOIT, PHISHING],
  'file-format': [PHISHING],
  'social-engineering': [PHISHING],
  'suspicious-filename-detect': [PHISHING],
  'attempted-admin': [EXPLOIT],
  'attempted-user': [EXPLOIT],
  'successful-admin': [EXPLOIT],
  'successful-user': [EXPLOIT],
  'unsuccessful-user': [EXPLOIT],
  'shellcode-detect': [EXPLOIT],
  'system-call-detect': [EXPLOIT],
  'web-application-attack': [EXPLOIT],
  'web-application-activity': [EXPLOIT],
  'misc-attack': [EXPLOIT],
  'attempted-recon': [SCAN],
  'successful-recon-limited': [SCAN],
  'successful-recon-largescale': [SCAN, EXFILTRATION],
  'network-scan': [SCAN],
  'rpc-portmap-decode': [SCAN],
  'external-ip-check': [SCAN],
  'attempted-dos': [DENIAL],
  'successful-dos': [DENIAL],
  'denial-of-service': [DENIAL],
  'coin-mining': [MINING],
  'credential-theft': [CREDENTIALS],
  'default-login-attempt': [CREDENTIALS],
  'suspicious-login': [CREDENTIALS],
  sdf: [EXFILTRATION],
  'policy-violation': [POLICY],
  'pup-activity': [POLICY],
  'inappropriate-content': [POLICY],
  'non-standard-protocol': [POLICY],
  'unusual-client-port-connection': [POLICY],
  'misc-activity': [NOISE],
  'icmp-event': [NOISE],
  'not-suspicious': [NOISE],
  'protocol-command-decode': [NOISE],
  'string-detect': [NOISE],
  'tcp-connection': [NOISE],
};

/** With those of its parts. */
const BY_TECHNIQUE: Record<string, readonly Advice[]> = {
  T1190: [EXPLOIT],
  T1203: [EXPLOIT, PHISHING],
  T1059: [EXPLOIT],
  T1210: [EXPLOIT, LATERAL],
  T1068: [EXPLOIT],
  T1505: [EXPLOIT],
  T1133: [POLICY],
  T1046: [SCAN],
  T1595: [SCAN],
  T1018: [SCAN],
  T1135: [SCAN],
  T1613: [SCAN, CREDENTIALS],
  T1071: [COMMAND_AND_CONTROL],
  T1090: [COMMAND_AND_CONTROL],
  T1095: [COMMAND_AND_CONTROL],
  T1105: [COMMAND_AND_CONTROL, PHISHING],
  T1568: [COMMAND_AND_CONTROL],
  T1571: [COMMAND_AND_CONTROL],
  T1572: [COMMAND_AND_CONTROL, EXFILTRATION],
  T1573: [COMMAND_AND_CONTROL],
  T1041: [EXFILTRATION],
  T1048: [EXFILTRATION],
  T1567: [EXFILTRATION],
  T1021: [LATERAL],
  T1570: [LATERAL],
  T1110: [CREDENTIALS],
  T1078: [CREDENTIALS],
  T1552: [CREDENTIALS],
  T1528: [CREDENTIALS],
  T1557: [CREDENTIALS],
  T1609: [EXPLOIT, LATERAL],
  T1610: [LATERAL],
  T1611: [EXPLOIT],
  T1496: [MINING],
  T1498: [DENIAL],
  T1499: [DENIAL],
  T1566: [PHISHING],
};
