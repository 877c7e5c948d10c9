/**
 * What the packets of an alert's flow say: the application's protocol, whether the request was answered, how much went
 * where. Texts are printable and short, lists end early, and all of it is `MAX_APP_BYTES` of JSON at most.
 */
import type { SmbFacts } from '../engine/alert.ts';

/** How a request ended: by the class of its status, or as far as the transport shows it. */
export const OUTCOMES = [
  '2xx',
  '3xx',
  '4xx',
  '5xx',
  /** By a protocol without such a status. */
  'answered',
  'reset',
  'refused',
  'no-answer',
  'unknown',
] as const;
export type Outcome = (typeof OUTCOMES)[number];

export interface HttpFacts {
  version?: string;
  method?: string;
  /** Of the Host header, or `:authority`, with its port. */
  host?: string;
  /** As in the request: a path, or all of a URL. */
  url?: string;
  user_agent?: string;
  referrer?: string;
  x_forwarded_for?: string;
  request?: HttpBody;
  status?: number;
  reason?: string;
  server?: string;
  /** Of a redirection. */
  location?: string;
  response?: HttpBody;
  /** `h2c`, `websocket`: the protocol that the server changed to. */
  upgrade?: string;
}

export interface HttpBody {
  content_type?: string;
  content_encoding?: string;
  /** Bytes that were there, without the frames of chunks; encoded as they were sent. */
  bytes?: number;
  /** As the header says. */
  content_length?: number;
  /** The beginning, decoded. */
  body?: string;
}

export interface GrpcFacts {
  service: string;
  method: string;
  status?: number;
  message?: string;
}

export interface DnsFacts {
  id: number;
  questions: { name: string; type: string }[];
  answers?: { name: string; type: string; ttl?: number; data: string }[];
  /** `NOERROR`, `NXDOMAIN`; absent without an answer. */
  rcode?: string;
}

export interface TlsFacts {
  sni?: string;
  /** What was agreed: `1.3`. */
  version?: string;
  /** What the client offers, the newest first. */
  versions?: string[];
  /** What was agreed, or all that the client offers where that is not seen. */
  alpn?: string[];
  cipher?: string;
  ja3?: string;
  ja3s?: string;
  ja4?: string;
  certificate?: {
    subject: string;
    issuer: string;
    serial: string;
    /** RFC 3339. */
    not_before: string;
    not_after: string;
    sha1: string;
    sha256: string;
    names?: string[];
  };
  /** The first alert of either side: `handshake_failure`. */
  alert?: string;
}

export interface SshFacts {
  client?: string;
  server?: string;
  hassh?: string;
  hassh_server?: string;
}

export interface SmtpFacts {
  helo?: string;
  from?: string;
  to?: string[];
  subject?: string;
  /** The last reply to a command: `250 2.0.0 Ok`. */
  reply?: string;
}

export interface FtpFacts {
  user?: string;
  /** The latest commands, without passwords. */
  commands?: string[];
  reply?: string;
}

export interface AppFacts {
  /** `http`, `http2`, `grpc`, `websocket`, `dns`, `tls`, `quic`, `ssh`, `smtp`, `ftp`, `smb`. */
  protocol: string;
  http?: HttpFacts;
  grpc?: GrpcFacts;
  dns?: DnsFacts;
  tls?: TlsFacts;
  ssh?: SshFacts;
  smtp?: SmtpFacts;
  ftp?: FtpFacts;
  /** As Suricata says it. */
  smb?: SmbFacts;
}

export interface Traffic {
  /** The alert's source is the server; absent: it is the client. */
  from_server?: true;
  packets_to_server: number;
  packets_to_client: number;
  /** On the wire, from the link layer on. */
  bytes_to_server: number;
  bytes_to_client: number;
  /** Microseconds from the first packet to the last. */
  duration_us: number;
  /** Microseconds from the first byte of the client to the first of the server. */
  answer_us?: number;
}

/** What is kept of the packets of an event's flow. */
export interface PacketsOfFlow {
  count: number;
  /** On the wire, of all of them. */
  bytes: number;
  /** Times of the first and the last one, RFC 3339. */
  first: string;
  last: string;
  /** Whether all of the flow's packets are there, from its beginning until it ended, or was waited for no longer. */
  complete: boolean;
  /** Packets of which only the beginning is there; absent: none. */
  cut?: number;
  /** Of its node, in the folder of evidence. */
  file: string;
}

/** What evidence found out about a flow. */
export interface Description {
  app?: AppFacts;
  outcome: Outcome;
  communityId?: string;
  traffic: Traffic;
}

/** Of `record.app`, as JSON. */
export const MAX_APP_BYTES = 32 << 10;
