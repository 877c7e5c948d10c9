/**
 * Connections of an http sink: TLS, proxies, and no way to link-local addresses, where clouds give out credentials.
 *
 * Names are looked at once they are resolved, by the look-up that the connection itself uses: a name that changes in
 * between leads nowhere else. Not promised: what a proxy resolves.
 */
import { lookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { EnvHttpProxyAgent, type Dispatcher } from 'undici';
import type { HttpSettings } from '../../config/sinks.ts';
import type { Secrets } from './secrets.ts';

const LINK_LOCAL = new BlockList();
LINK_LOCAL.addSubnet('169.254.0.0', 16, 'ipv4');
LINK_LOCAL.addSubnet('fe80::', 10, 'ipv6');
// The same behind a NAT64, and by 6to4.
LINK_LOCAL.addSubnet('64:ff9b::a9fe:0', 112, 'ipv6');
LINK_LOCAL.addSubnet('2002:a9fe::', 32, 'ipv6');
// Where AWS answers what 169.254.169.254 does.
LINK_LOCAL.addAddress('fd00:ec2::254', 'ipv6');

/** Has the code of an error of the network, so that it can be told apart. */
class LinkLocalError extends Error {
  readonly code = 'ELINKLOCAL';

  constructor(host: string, address: string) {
    super(`${host} is ${address}, a link-local address`);
  }
}

/** Also as `::ffff:169.254.…`. */
export function isLinkLocal(address: string): boolean {
  const family = isIP(address);
  return family !== 0 && LINK_LOCAL.check(address, family === 4 ? 'ipv4' : 'ipv6');
}

/** @throws LinkLocalError where the URL's host is such an address itself: nobody looks it up. */
export function refuseLinkLocal({ hostname }: URL): void {
  const address = hostname.replace(/^\[(.*)\]$/, '$1');
  if (isLinkLocal(address)) throw new LinkLocalError(hostname, address);
}

const guardedLookup: LookupFunction = (host, options, callback) => {
  lookup(host, { ...options, all: true }, (error, addresses) => {
    const [first] = addresses ?? [];
    const refused = addresses?.find(({ address }) => isLinkLocal(address));
    if (error !== null) callback(error, '', 0);
    else if (refused !== undefined) callback(new LinkLocalError(host, refused.address), '', 0);
    else if (options.all === true) callback(null, addresses);
    else callback(null, first?.address ?? '', first?.family ?? 0);
  });
};

/** The caller closes it. */
export function createDispatcher(
  {
    proxy,
    verifyTls,
    allowLinkLocal,
    timeoutMillis,
  }: Pick<HttpSettings, 'proxy' | 'verifyTls' | 'allowLinkLocal' | 'timeoutMillis'>,
  { ca, certificate, key }: Pick<Secrets, 'ca' | 'certificate' | 'key'>,
): Dispatcher {
  const trust = { rejectUnauthorized: verifyTls, ...(ca === undefined ? {} : { ca }) };
  const tls = {
    ...trust,
    ...(certificate === undefined ? {} : { cert: certificate }),
    ...(key === undefined ? {} : { key }),
  };
  return new EnvHttpProxyAgent({
    headersTimeout: timeoutMillis,
    bodyTimeout: timeoutMillis,
    connect: { ...tls, timeout: timeoutMillis, ...(allowLinkLocal ? {} : { lookup: guardedLookup }) },
    requestTls: tls,
    proxyTls: trust,
    // Proxies let tunnels through to port 443, and not to port 80.
    proxyTunnel: false,
    ...(proxy === undefined ? {} : { httpProxy: proxy, httpsProxy: proxy, noProxy: '' }),
  });
}
