/**
 * A rule in plain words: whose traffic, in which direction, and what it looks for, option by option.
 *
 * For people: short, and not complete. Options without words of their own come as they stand. Nothing of the rule
 * decides about time or memory beyond its length; control characters are left in, so whoever prints it strips them.
 */
import type { RuleInfo } from './rule.ts';

export interface Explanation {
  /** "TCP from $HOME_NET, any port, to $EXTERNAL_NET, port $HTTP_PORTS" */
  traffic: string;
  /** "from the client, in an established connection"; absent where the rule does not say. */
  direction?: string;
  /** Application protocols that it is for, as the rule names them. */
  services: string[];
  /** What has to be there, in the rule's order. */
  looksFor: string[];
}

/** An option as it stands: `content` and `"smk=",depth 4`. */
export interface RuleOption {
  key: string;
  value: string;
}

const MAX_LINES = 100;

export function explainRule(rule: Pick<RuleInfo, 'header' | 'text'>): Explanation {
  const options = ruleOptions(rule.text);
  const values = (key: string): string[] => options.filter((option) => option.key === key).map(({ value }) => value);
  const services = values('service').flatMap((value) => value.split(',').map((name) => name.trim()));
  const flow = [...values('flow'), ...values('flow.established')].flatMap((value) =>
    value.split(',').map((word) => word.trim()),
  );
  const direction = flow.map((word) => FLOW[word.toLowerCase()] ?? word).filter((word) => word !== '');
  return {
    traffic: traffic(rule.header),
    ...(direction.length === 0 ? {} : { direction: direction.join(', ') }),
    services,
    looksFor: looksFor(options),
  };
}

/** The options of a rule's text, in order; a rule that is commented out too. */
export function ruleOptions(text: string): RuleOption[] {
  const body = text.replaceAll(/\\[ \t\r]*\n[ \t#]*/g, '').replaceAll(/\r?\n[ \t#]*/g, ' ');
  const open = body.indexOf('(');
  const options: RuleOption[] = [];
  let start = open + 1;
  let quoted = false;
  for (let at = open + 1; at > 0 && at < body.length; at++) {
    const character = body.charAt(at);
    if (character === '\\') at++;
    // In an expression they may be single, and protect nothing.
    else if (character === '"') quoted = !quoted && !/^\s*pcre\s*:/.test(body.slice(start, start + 16));
    else if ((character === ';' || at === body.length - 1) && !quoted) {
      const option = body.slice(start, at).trim();
      const colon = option.indexOf(':');
      const key = (colon < 0 ? option : option.slice(0, colon)).trim();
      if (key !== '' && key !== ')') options.push({ key, value: colon < 0 ? '' : option.slice(colon + 1).trim() });
      start = at + 1;
    }
  }
  return options;
}

const FLOW: Record<string, string> = {
  to_server: 'from the client to the server',
  from_client: 'from the client to the server',
  to_client: 'from the server to the client',
  from_server: 'from the server to the client',
  established: 'in an established connection',
  not_established: 'in a connection that is not established yet',
  stateless: 'whatever the state of the connection',
  only_stream: 'in the stream as it was put together',
  no_stream: 'in single packets',
};

function traffic(header: string): string {
  const [, protocol = '', source, sourcePort = 'any', arrow, destination = 'any', destinationPort = 'any'] =
    header.match(/\[[^\]]*\]|\S+/g) ?? [''];
  const name = protocol === '' ? 'any traffic' : protocol === 'ip' ? 'IP, of any protocol' : protocol.toUpperCase();
  if (source === undefined) return protocol === 'file' ? 'files, whatever carries them' : `${name}, whoever sends it`;
  const end = (address: string, port: string): string =>
    `${address === 'any' ? 'anybody' : address}, ${port === 'any' ? 'any port' : `port ${port}`}`;
  if (arrow === '<>') return `${name} between ${end(source, sourcePort)}, and ${end(destination, destinationPort)}`;
  return `${name} from ${end(source, sourcePort)}, to ${end(destination, destinationPort)}`;
}

/** Where what follows is looked for. */
const BUFFERS: Record<string, string> = {
  base64_data: 'the decoded base64',
  dce_stub_data: 'the data of the DCE call',
  'dns.query': "the DNS query's name",
  'file.data': 'the body or file',
  file_data: 'the body or file',
  'http.cookie': 'the HTTP cookies',
  'http.header': 'the HTTP headers',
  'http.host': 'the HTTP host',
  'http.method': 'the HTTP method',
  'http.request_body': "the request's body",
  'http.response_body': "the response's body",
  'http.stat_code': 'the HTTP status',
  'http.uri': 'the URI',
  'http.uri.raw': 'the URI as it was sent',
  'http.user_agent': 'the header User-Agent',
  http_client_body: "the request's body",
  http_cookie: 'the HTTP cookies',
  http_header: 'the HTTP headers',
  http_method: 'the HTTP method',
  http_raw_body: 'the body as it was sent',
  http_raw_header: 'the HTTP headers as they were sent',
  http_raw_uri: 'the URI as it was sent',
  http_stat_code: 'the HTTP status',
  http_stat_msg: "the status's text",
  http_uri: 'the URI',
  js_data: 'the normalised JavaScript',
  pkt_data: 'the payload',
  raw_data: 'the payload as it was sent',
  sip_header: 'the SIP headers',
  sip_body: "the SIP message's body",
  'tls.sni': "the TLS server's name",
};

/** What a rule says about itself, or what is told elsewhere. */
const ABOUT = new Set(
  'msg flow service sid gid rev classtype reference metadata priority rem target soid fast_pattern'.split(' '),
);

function looksFor(options: readonly RuleOption[]): string[] {
  const lines: string[] = [];
  let place = 'the payload';
  /** Suricata's modifiers of a content are options of their own. */
  const modify = (text: string): void => {
    const last = lines.pop();
    lines.push(last === undefined ? text : `${last}, ${text}`);
  };
  for (const { key, value } of options) {
    if (ABOUT.has(key)) continue;
    if (lines.length >= MAX_LINES) {
      lines.push('…');
      break;
    }
    const buffer = Object.hasOwn(BUFFERS, key) ? BUFFERS[key] : undefined;
    if (buffer !== undefined) {
      const field = /(?:^|,)\s*field\s+([^,\s]+)/.exec(value)?.[1];
      place = field === undefined ? buffer : `the header ${field}`;
    } else if (key === 'content' || key === 'uricontent')
      lines.push(content(value, key === 'content' ? place : 'the URI'));
    else if (key === 'pcre' || key === 'regex') lines.push(expression(value, place));
    else if (/^(?:nocase|depth|offset|distance|within|startswith|endswith|rawbytes)$/.test(key))
      modify(modifier(key, value));
    else lines.push(other(key, value, place));
  }
  return lines;
}

/** `!"smk=",depth 4,fast_pattern` → `not "smk=" in the request's body, in its first 4 bytes` */
function content(value: string, place: string): string {
  const match = /^(!?)\s*("(?:[^"\\]|\\.)*")\s*(?:,(.*))?$/s.exec(value);
  if (match === null) return `content ${value} in ${place}`;
  const [, not = '', text = '', rest = ''] = match;
  const modifiers = rest
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '' && !word.startsWith('fast_pattern'))
    .map((word) => {
      const [name = '', argument = ''] = word.split(/[\s:]+/, 2);
      return modifier(name, argument);
    });
  return [`${not === '' ? '' : 'not '}${readable(text)} in ${place}`, ...modifiers].join(', ');
}

/** `|0D 0A|` as text where it is, else as it stands. */
function readable(text: string): string {
  return text.replaceAll(/\|([\s0-9A-Fa-f]+)\|/g, (whole, hex: string) => {
    const bytes = Buffer.from(hex.replaceAll(/\s/g, ''), 'hex');
    const isText = bytes.length > 0 && bytes.every((byte) => byte === 13 || byte === 10 || (byte >= 32 && byte < 127));
    if (!isText) return whole;
    const written: Record<string, string> = { '"': String.raw`\"`, '\r': String.raw`\r`, '\n': String.raw`\n` };
    return bytes.toString('latin1').replaceAll(/["\r\n]/g, (character) => written[character] ?? character);
  });
}

function modifier(name: string, argument: string): string {
  switch (name) {
    case 'nocase':
      return 'in any case';
    case 'depth':
      return `in the first ${argument} bytes looked at`;
    case 'offset':
      return `from byte ${argument} on`;
    case 'distance':
      return argument === '0' ? 'behind the last match' : `${argument} bytes or more behind the last match`;
    case 'within':
      return `ending at most ${argument} bytes behind the last match`;
    case 'startswith':
      return 'at its beginning';
    case 'endswith':
      return 'at its end';
    default:
      return argument === '' ? name : `${name} ${argument}`;
  }
}

function expression(value: string, place: string): string {
  const not = value.startsWith('!');
  return `${not ? 'no ' : ''}match of ${value.replace(/^!?\s*"?/, '').replace(/"$/, '')} in ${place}`;
}

function other(key: string, value: string, place: string): string {
  const [first = '', ...rest] = value.split(',').map((word) => word.trim());
  switch (key) {
    case 'flowbits':
    case 'xbits': {
      const name = rest.join(', ');
      const texts: Record<string, string> = {
        set: `notes ${name} for the connection`,
        unset: `forgets ${name}`,
        isset: `only where an earlier rule noted ${name}`,
        isnotset: `only where no earlier rule noted ${name}`,
        noalert: 'makes no alert of its own: it only notes something',
      };
      return texts[first] ?? `${key} ${value}`;
    }
    case 'bufferlen':
    case 'bsize':
    case 'urilen':
      return `length of ${key === 'urilen' ? 'the URI' : place}: ${value}`;
    case 'dsize':
      return `length of the payload: ${value}`;
    case 'isdataat':
      return first.startsWith('!') ? `no data at byte ${value.slice(1)}` : `data at byte ${value}`;
    case 'itype':
      return `ICMP type ${value}`;
    case 'icode':
      return `ICMP code ${value}`;
    case 'flags':
      return `TCP flags ${value}`;
    case 'ttl':
      return `time to live ${value}`;
    case 'byte_test':
      return `a number in ${place} compares: ${value}`;
    case 'byte_jump':
      return `goes on behind as many bytes as a number in ${place} says: ${value}`;
    case 'byte_extract':
      return `keeps a number from ${place}: ${value}`;
    case 'detection_filter':
    case 'threshold':
      return `only beyond a rate: ${value}`;
    default:
      return value === '' ? key : `${key} ${value}`;
  }
}
