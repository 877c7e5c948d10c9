/**
 * What stands before the parenthesis: action, protocol, addresses, ports.
 *
 * A rule of Snort 3 with a service looks at flows of that service on any port, and on its own ports at flows whose
 * service is not known. Suricata has either protocol or ports, so such a rule becomes several: one with the ports, and
 * for each of the services one for all other ports. No packet is looked at by two of them. They look at more flows than
 * Snort does: at those on the rule's ports of which another service is known.
 */
import { OTHER_WAY } from '../../engine/snort/snort2.ts';
import type { Variables } from '../../rule-variables.ts';
import { headerWords } from '../dead.ts';
import type { Abilities } from './abilities.ts';
import { refuse, shown } from './refusal.ts';

export interface Header {
  action: string;
  protocol: string;
  source: string;
  sourcePorts: string;
  arrow: string;
  destination: string;
  destinationPorts: string;
}

/** A header of a rule for Suricata, and the option that says the protocol where the header can't. */
export interface Variant {
  header: string;
  option?: string;
}

type Transport = 'tcp' | 'udp';

interface Service {
  protocol: string;
  transports: readonly Transport[];
}

/** Snort's services to Suricata's protocols. */
const SERVICES = new Map<string, Service>(
  Object.entries({
    dcerpc: { protocol: 'dcerpc', transports: ['tcp', 'udp'] },
    dhcp: { protocol: 'dhcp', transports: ['udp'] },
    dns: { protocol: 'dns', transports: ['tcp', 'udp'] },
    ftp: { protocol: 'ftp', transports: ['tcp'] },
    'ftp-data': { protocol: 'ftp-data', transports: ['tcp'] },
    http: { protocol: 'http', transports: ['tcp'] },
    http2: { protocol: 'http2', transports: ['tcp'] },
    imap: { protocol: 'imap', transports: ['tcp'] },
    kerberos: { protocol: 'krb5', transports: ['tcp', 'udp'] },
    mqtt: { protocol: 'mqtt', transports: ['tcp'] },
    'netbios-ssn': { protocol: 'smb', transports: ['tcp'] },
    quic: { protocol: 'quic', transports: ['udp'] },
    rdp: { protocol: 'rdp', transports: ['tcp'] },
    sip: { protocol: 'sip', transports: ['udp'] },
    smb: { protocol: 'smb', transports: ['tcp'] },
    smtp: { protocol: 'smtp', transports: ['tcp'] },
    snmp: { protocol: 'snmp', transports: ['udp'] },
    ssh: { protocol: 'ssh', transports: ['tcp'] },
    ssl: { protocol: 'tls', transports: ['tcp'] },
    tftp: { protocol: 'tftp', transports: ['udp'] },
  } satisfies Record<string, Service>),
);

const ACTIONS = new Map([
  ['alert', 'alert'],
  ['block', 'drop'],
  ['drop', 'drop'],
  ['pass', 'pass'],
  ['reject', 'reject'],
]);

/**
 * @param variables What Suricata is configured with. Where a name stands for something else in Snort, `SNORT_` with the
 * name stands for that.
 * @throws Refusal for headers that Suricata has no like of.
 */
export function parseHeader(text: string, variables: Variables): Header {
  const words = headerWords(text);
  const [word = '', protocol, source, sourcePorts, arrow, destination, destinationPorts] = words;
  const action = ACTIONS.get(word) ?? refuse(`the action ${word} has no like in Suricata`);
  if (protocol === undefined) refuse('a rule without a header is for a part of Snort that Suricata does not have');
  if (words.length === 2) {
    return header({ action, protocol, source: 'any', sourcePorts: 'any', destination: 'any', destinationPorts: 'any' });
  }
  if (
    words.length !== 7 ||
    source === undefined ||
    sourcePorts === undefined ||
    arrow === undefined ||
    destination === undefined ||
    destinationPorts === undefined ||
    !['->', '<>'].includes(arrow)
  ) {
    refuse(`not a header: ${shown(text)}${arrow === '<-' ? `: ${OTHER_WAY}` : ''}`);
  }
  for (const [kind, value] of [
    ['addresses', source],
    ['addresses', destination],
    ['ports', sourcePorts],
    ['ports', destinationPorts],
  ] as const) {
    if (!/^[\w.:/,!$[\]-]+$/.test(value)) refuse(`not ${kind}: ${shown(value)}`);
    checkVariables(value, variables[kind]);
  }
  const [from, to] = [sourcePorts, destinationPorts].map((ports) =>
    ports.replaceAll(/\$(\w+)/g, (variable, name: string) =>
      Object.hasOwn(variables.ports, `SNORT_${name}`) ? `$SNORT_${name}` : variable,
    ),
  );
  return {
    action,
    protocol: protocol.toLowerCase(),
    source,
    sourcePorts: from ?? 'any',
    arrow,
    destination,
    destinationPorts: to ?? 'any',
  };
}

function header(parts: Omit<Header, 'arrow'>): Header {
  return { ...parts, protocol: parts.protocol.toLowerCase(), arrow: '->' };
}

function checkVariables(value: string, known: Readonly<Record<string, string>>): void {
  for (const [, not, name = ''] of value.matchAll(/(!?)\s*\$(\w+)/g)) {
    if (!Object.hasOwn(known, name)) refuse(`$${name} is not among the variables that Suricata is configured with`);
    if (not === '!' && isAny(`$${name}`, known)) refuse(`!$${name} matches nothing: $${name} is any`);
  }
}

/** Whether addresses or ports are all there are, over variables. */
function isAny(value: string, known: Readonly<Record<string, string>>, depth = 0): boolean {
  if (value === 'any') return true;
  if (depth > 8) return false;
  const variable = /^\$(\w+)$/.exec(value)?.[1];
  if (variable !== undefined) return Object.hasOwn(known, variable) && isAny(known[variable] ?? '', known, depth + 1);
  const list = /^\[([^[\]!]*)\]$/.exec(value)?.[1];
  return list !== undefined && list.split(',').some((item) => isAny(item.trim(), known, depth + 1));
}

/** What decides the protocols and ports of a rule, beside its header. */
export interface Needs {
  /** Snort's services, from `service` or from the header. */
  services: readonly string[];
  /** Suricata's protocols that have all of the rule's buffers; absent where it looks at payload alone. */
  protocols?: readonly string[];
  /** For a reason: the buffers. */
  buffers: string;
  abilities: Abilities;
}

/** The headers that together are the same for Suricata; at least one. */
export function translateHeader(original: Header, needs: Needs, variables: Variables): Variant[] {
  const { protocol } = original;
  const isTransport = ['tcp', 'udp', 'icmp', 'ip'].includes(protocol);
  const services = isTransport || protocol === 'file' ? needs.services : [protocol];
  const transports: readonly string[] = isTransport && protocol !== 'ip' ? [protocol] : ['tcp', 'udp'];
  const known = services.flatMap((service) => serviceOf(service, needs.abilities) ?? []);
  if (!isTransport && protocol !== 'file' && known.length === 0) refuse(`Suricata has no protocol for ${protocol}`);
  const ofServices = known.filter((service) => service.transports.some((transport) => transports.includes(transport)));

  if (needs.protocols !== undefined) {
    const having = needs.protocols;
    if (services.length === 0 && having.length > 1) return [printed(original, isTransport ? protocol : 'tcp')];
    const chosen =
      services.length === 0 ? having : having.filter((name) => ofServices.some((service) => service.protocol === name));
    if (chosen.length === 0)
      refuse(
        `this Suricata finds no ${needs.buffers} in ${transports.join(' and ')} flows of ${services.join(' and ')}`,
      );
    // DCERPC in SMB is found by `dcerpc` too.
    const names = chosen.includes('dcerpc') ? ['dcerpc'] : chosen;
    // By its name both transports would be looked at; the buffers say which protocol it is.
    const byTransport = names.includes('sip') && needs.abilities.sipOverTcp && transports.length === 1;
    return names.map((name) => printed(anyPorts(original), byTransport ? protocol : name));
  }

  if (protocol === 'file') refuse('a rule for files that looks at none');
  if (!isTransport) return ofServices.map((service) => ofProtocol(anyPorts(original), service, transports));
  if (services.length === 0) return [printed(original, protocol)];
  const [anySource, anyDestination] = [original.sourcePorts, original.destinationPorts].map((ports) =>
    isAny(ports, variables.ports),
  );
  // On any port the flows of unknown services are looked at too, and Suricata can't tell those from others.
  if (anySource && anyDestination) return [printed(original, protocol)];
  const elsewhere = otherPorts(original, anySource ?? false, anyDestination ?? false);
  return [
    printed(original, protocol),
    ...(elsewhere === undefined ? [] : ofServices.map((service) => ofProtocol(elsewhere, service, transports))),
  ];
}

function serviceOf(name: string, { sipOverTcp }: Abilities): Service | undefined {
  const service = SERVICES.get(name);
  return name === 'sip' && sipOverTcp ? { protocol: 'sip', transports: ['tcp', 'udp'] } : service;
}

function printed(parts: Header, protocol: string): Variant {
  const { action, source, sourcePorts, arrow, destination, destinationPorts } = parts;
  return { header: [action, protocol, source, sourcePorts, arrow, destination, destinationPorts].join(' ') };
}

/** By the protocol's name, or where that would take another transport too, by an option. */
function ofProtocol(
  parts: Header,
  { protocol, transports }: { protocol: string; transports: readonly string[] },
  wanted: readonly string[],
): Variant {
  const others = transports.filter((transport) => !wanted.includes(transport));
  if (others.length === 0) return printed(parts, protocol);
  return { ...printed(parts, wanted[0] ?? 'tcp'), option: `app-layer-protocol:${protocol}` };
}

function anyPorts(parts: Header): Header {
  return { ...parts, sourcePorts: 'any', destinationPorts: 'any' };
}

/** All ports but the rule's; `undefined` where one header can't say so. */
function otherPorts(parts: Header, anySource: boolean, anyDestination: boolean): Header | undefined {
  if (anySource === anyDestination) return undefined;
  const ports = anySource ? parts.destinationPorts : parts.sourcePorts;
  if (/[[,]\s*!/.test(ports)) return undefined;
  const others = ports.startsWith('!') ? ports.slice(1) : `!${ports}`;
  return anySource ? { ...parts, destinationPorts: others } : { ...parts, sourcePorts: others };
}
