/**
 * The buffers that options look at, in Snort's words and in Suricata's.
 *
 * Snort decodes %-escapes in HTTP headers, cookies and request bodies before it looks; Suricata does so only on request
 * (`url_decode`, which makes a space of `+` besides).
 */
import { refuse } from './refusal.ts';

export interface SnortBuffer {
  /** As in the rule: `http_header: field host`. */
  name: string;
  /** Suricata's keyword; absent for the payload. */
  keyword?: string;
  /** Suricata's protocols that have it; absent for the payload, which all have. */
  protocols?: readonly string[];
  side: 'request' | 'response' | 'both';
  /** `whole`: it is looked at when it is complete, so that `bsize` knows its length. */
  size: 'whole' | 'stream';
  /** Whether Snort decodes %-escapes in it. */
  decoded?: true;
  /** What a pattern is looked for in in any case, because Suricata has it in one case only. */
  noFastPattern?: true;
}

export const PAYLOAD: SnortBuffer = { name: 'pkt_data', side: 'both', size: 'stream' };
const HTTP = ['http'] as const;
/** Protocols whose files Suricata takes out; Snort names them `http, smtp, ftp-data, netbios-ssn`. */
const FILE_PROTOCOLS: readonly string[] = ['http', 'smtp', 'ftp-data', 'smb'];

function http(name: string, keyword: string, side: SnortBuffer['side'], more: Partial<SnortBuffer> = {}): SnortBuffer {
  return { name, keyword, protocols: HTTP, side, size: 'whole', ...more };
}

const BUFFERS = new Map<string, SnortBuffer>(
  [
    PAYLOAD,
    // Suricata's payload is never normalized.
    { ...PAYLOAD, name: 'raw_data' },
    http('http_uri', 'http.uri', 'request'),
    http('http_raw_uri', 'http.uri.raw', 'request'),
    http('http_method', 'http.method', 'request'),
    http('http_header', 'http.header', 'both', { decoded: true }),
    http('http_raw_header', 'http.header.raw', 'both'),
    http('http_cookie', 'http.cookie', 'both', { decoded: true }),
    http('http_raw_cookie', 'http.cookie', 'both'),
    http('http_client_body', 'http.request_body', 'request', { decoded: true, size: 'stream' }),
    http('http_raw_request', 'http.request_line', 'request'),
    http('http_raw_status', 'http.response_line', 'response'),
    http('http_stat_code', 'http.stat_code', 'response'),
    http('http_stat_msg', 'http.stat_msg', 'response'),
    http('http_version', 'http.protocol', 'both'),
    { name: 'file_data', keyword: 'file.data', protocols: FILE_PROTOCOLS, side: 'both', size: 'stream' } as const,
    { name: 'base64_data', keyword: 'base64_data', side: 'both', size: 'stream', noFastPattern: true } as const,
    {
      name: 'dce_stub_data',
      keyword: 'dcerpc.stub_data',
      protocols: ['dcerpc', 'smb'],
      side: 'both',
      size: 'stream',
    } as const,
  ].map((buffer): [string, SnortBuffer] => [buffer.name, buffer]),
);

/** Suricata's buffers for the values of single headers. */
const FIELDS: Record<string, string | undefined> = {
  accept: 'http.accept',
  'accept-encoding': 'http.accept_enc',
  'accept-language': 'http.accept_lang',
  connection: 'http.connection',
  'content-length': 'http.content_len',
  'content-type': 'http.content_type',
  // `http.host` is in lower case, and without the port.
  host: 'http.host.raw',
  location: 'http.location',
  referer: 'http.referer',
  server: 'http.server',
  'user-agent': 'http.user_agent',
};

export function isBuffer(key: string): boolean {
  return BUFFERS.has(key);
}

/** @param value What stands behind the colon: `field user-agent`, `request`, … */
export function findBuffer(key: string, value: string): SnortBuffer {
  const buffer = BUFFERS.get(key) ?? refuse(`${key}: Suricata has no such buffer`);
  if (value === '') return buffer;
  const field = /^field\s+(\S+)$/i.exec(value)?.[1]?.toLowerCase();
  const keyword = field === undefined ? undefined : FIELDS[field];
  if ((key !== 'http_header' && key !== 'http_raw_header') || keyword === undefined)
    refuse(`${key}: Suricata has no buffer for ${value}`);
  return { ...buffer, name: `${key}: ${value}`, keyword };
}
