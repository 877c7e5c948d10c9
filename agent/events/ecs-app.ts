/** What a flow's packets say, in the Elastic Common Schema. What ECS has no field for is under `dpi_agent`. */
import { isIP } from 'node:net';
import type { AppFacts, DnsFacts, HttpBody, HttpFacts, TlsFacts } from './app.ts';
import type { EventRecord } from './event.ts';

type Fields = Record<string, unknown>;

interface EcsApp {
  /** Fields of the document's own level. */
  top: Fields;
  source: Fields;
  destination: Fields;
  network: Fields;
  event: Fields;
  own: Fields;
  /** Names for `related.hosts`. */
  hosts: string[];
}

export function ecsApp({ app, outcome, community_id, traffic, files }: EventRecord): EcsApp {
  const toServer = traffic && { bytes: traffic.bytes_to_server, packets: traffic.packets_to_server };
  const toClient = traffic && { bytes: traffic.bytes_to_client, packets: traffic.packets_to_client };
  // Traffic is counted by client and server.
  const [source, destination] = traffic?.from_server === true ? [toClient, toServer] : [toServer, toClient];
  return {
    top: app === undefined ? {} : topOf(app),
    source: source ?? {},
    destination: destination ?? {},
    network: defined({
      protocol: app?.protocol,
      community_id,
      forwarded_ip: firstAddress(app?.http?.x_forwarded_for),
      ...(traffic === undefined
        ? {}
        : {
            bytes: traffic.bytes_to_server + traffic.bytes_to_client,
            packets: traffic.packets_to_server + traffic.packets_to_client,
          }),
    }),
    // Nanoseconds.
    event: traffic === undefined ? {} : { duration: traffic.duration_us * 1_000 },
    own: defined({ app: app?.protocol, outcome, files, answer_us: traffic?.answer_us, ...ownOf(app) }),
    hosts: [
      ...new Set([
        domainOf(app?.http?.host) ?? '',
        app?.tls?.sni ?? '',
        ...(app?.dns?.questions ?? []).map(({ name }) => name),
      ]),
    ].filter((name) => name !== ''),
  };
}

function topOf(app: AppFacts): Fields {
  const { http, dns, tls, smtp } = app;
  return defined({
    ...(http === undefined ? {} : { http: httpOf(http), url: urlOf(http, tls !== undefined) }),
    user_agent: http?.user_agent === undefined ? undefined : { original: http.user_agent },
    dns: dns === undefined ? undefined : dnsOf(dns),
    tls: tls === undefined ? undefined : tlsOf(tls),
    email:
      smtp === undefined
        ? undefined
        : defined({
            from: smtp.from === undefined ? undefined : { address: [smtp.from] },
            to: smtp.to === undefined ? undefined : { address: smtp.to },
            subject: smtp.subject,
          }),
  });
}

function httpOf(http: HttpFacts): Fields {
  return defined({
    version: http.version,
    request: someOf({ method: http.method, referrer: http.referrer, ...bodyOf(http.request) }),
    response: someOf({ status_code: http.status, ...bodyOf(http.response) }),
  });
}

function bodyOf(body: HttpBody | undefined): Fields {
  if (body === undefined) return {};
  const mime = body.content_type?.split(';')[0]?.trim().toLowerCase();
  return { mime_type: mime, body: someOf({ bytes: body.bytes, content: body.body }) };
}

function urlOf({ url = '', host }: HttpFacts, isEncrypted: boolean): Fields {
  const [before = ''] = url.split('#');
  const at = before.indexOf('?');
  const isPath = before.startsWith('/');
  const domain = domainOf(host);
  const port = /:(\d{1,5})$/.exec(host ?? '')?.[1];
  const scheme = isEncrypted ? 'https' : 'http';
  return defined({
    original: url === '' ? undefined : url,
    domain,
    port: port === undefined || domain === host ? undefined : Number(port),
    scheme: isPath ? scheme : undefined,
    full: isPath && host !== undefined ? `${scheme}://${host}${url}` : undefined,
    path: !isPath ? undefined : at < 0 ? before : before.slice(0, at),
    query: at < 0 ? undefined : before.slice(at + 1),
  });
}

/** Without a port. */
export function domainOf(host: string | undefined): string | undefined {
  if (host === undefined) return undefined;
  const [, six] = /^\[([^\]]*)\](?::\d{0,5})?$/.exec(host) ?? [];
  return six ?? (/^[^:]*:\d{0,5}$/.test(host) ? host.slice(0, host.indexOf(':')) : host);
}

function dnsOf({ id, questions, answers, rcode }: DnsFacts): Fields {
  const [question] = questions;
  const resolved = (answers ?? []).flatMap(({ type, data }) =>
    (type === 'A' || type === 'AAAA') && isIP(data) !== 0 ? [data] : [],
  );
  return defined({
    id: String(id),
    type: rcode === undefined ? 'query' : 'answer',
    question: questions.length > 1 ? questions : question,
    answers,
    response_code: rcode,
    resolved_ip: resolved.length === 0 ? undefined : resolved,
  });
}

/** Hashes and serial numbers in capitals, as ECS has them. */
function tlsOf(tls: TlsFacts): Fields {
  const { certificate } = tls;
  return defined({
    version: tls.version?.replace(/^SSL /, ''),
    version_protocol: tls.version === undefined ? undefined : tls.version.startsWith('SSL') ? 'ssl' : 'tls',
    cipher: tls.cipher,
    // What was agreed, where one was.
    next_protocol: tls.alpn?.length === 1 ? tls.alpn[0] : undefined,
    client: someOf({ server_name: tls.sni, ja3: tls.ja3 }),
    server: someOf({
      ja3s: tls.ja3s,
      ...(certificate === undefined
        ? {}
        : {
            subject: certificate.subject,
            issuer: certificate.issuer,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            hash: { sha1: certificate.sha1.toUpperCase(), sha256: certificate.sha256.toUpperCase() },
            x509: defined({
              serial_number: certificate.serial.toUpperCase(),
              alternative_names: certificate.names,
            }),
          }),
    }),
  });
}

function ownOf(app: AppFacts | undefined): Fields {
  if (app === undefined) return {};
  const { tls, http, ssh, ftp, grpc, smtp, smb } = app;
  return {
    tls: someOf({ ja4: tls?.ja4, alert: tls?.alert, versions: tls?.versions }),
    http: someOf({
      host: http?.host,
      server: http?.server,
      location: http?.location,
      x_forwarded_for: http?.x_forwarded_for,
    }),
    ssh,
    ftp,
    grpc,
    smb,
    smtp: someOf({ helo: smtp?.helo, reply: smtp?.reply }),
  };
}

function firstAddress(forwardedFor: string | undefined): string | undefined {
  const [first = ''] = (forwardedFor ?? '').split(',');
  return isIP(first.trim()) === 0 ? undefined : first.trim();
}

function defined(values: Fields): Fields {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

/** undefined where there is none. */
function someOf(values: Fields): Fields | undefined {
  const some = defined(values);
  return Object.keys(some).length === 0 ? undefined : some;
}
