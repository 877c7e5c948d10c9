/**
 * Rules in Snort's syntax of all the kinds that are translated, written for this test, and traffic for those for which
 * `trafficFor` can't make it: conversations that fire the rule, and near misses.
 */
import type { Turn } from '../support/packets.ts';

export interface OwnRule {
  rule: string;
  /** In the place of what `trafficFor` makes. */
  fires?: Turn[];
  nearMiss?: Turn[];
}

const client = (...parts: (string | number[])[]): Turn => ({ from: 'client', data: bytes(parts) });
const server = (...parts: (string | number[])[]): Turn => ({ from: 'server', data: bytes(parts) });

function bytes(parts: (string | number[])[]): Buffer {
  return Buffer.concat(
    parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : Buffer.from(part))),
  );
}

const web = (options: string): string =>
  `alert tcp any any -> any $HTTP_PORTS ( flow:to_server,established; ${options} service:http;`;
const page = (options: string): string =>
  `alert tcp any $HTTP_PORTS -> any any ( flow:to_client,established; ${options} service:http;`;
const raw = (port: number, options: string): string =>
  `alert tcp any any -> any ${port} ( flow:to_server,established; ${options}`;
const datagram = (port: number, options: string): string =>
  `alert udp any any -> any ${port} ( flow:to_server; ${options}`;
const ping = (options: string): string => `alert icmp any any -> any any ( ${options}`;
const post = (body: string): Turn =>
  client(`POST /form HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
const get = (path: string, headers = ''): Turn => client(`GET ${path} HTTP/1.1\r\nHost: a.test\r\n${headers}\r\n`);
const ok = (body: string): Turn => server(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`);

export const OWN_RULES: OwnRule[] = [
  // Requests.
  { rule: web('http_uri; content:"/own/admin.php",fast_pattern,nocase;') },
  { rule: web('http_uri; content:"/own/a"; content:"id=",distance 1,within 8;') },
  { rule: web('http_uri; content:"/own/b",depth 6; bufferlen:>20;') },
  { rule: web('http_uri; bufferlen:9; content:"/own/only";') },
  { rule: web('http_uri; content:"/own c";'), fires: [get('/own%20c')], nearMiss: [get('/own-c')] },
  { rule: web('http_raw_uri; content:"/own/%2Eraw";') },
  {
    rule: web('http_uri; content:"/own/p"; pcre:"/own\\/p[0-9]{3}$/";'),
    fires: [get('/own/p123'), ok('x')],
    nearMiss: [get('/own/p12'), ok('x')],
  },
  { rule: web('http_method; content:"PATCH"; http_uri; content:"/own/m";') },
  {
    rule: web('http_header; content:"User-Agent|3A 20|OwnBot/1.0|0D 0A|",fast_pattern;'),
    fires: [get('/', 'User-Agent: OwnBot/1.0\r\nAccept: x\r\n')],
    nearMiss: [get('/', 'User-Agent: OwnBot/1.0b\r\nAccept: x\r\n')],
  },
  {
    rule: web('http_header: field user-agent; content:"OwnAgent",depth 8;'),
    fires: [get('/', 'User-Agent: OwnAgent/2\r\n'), ok('x')],
    nearMiss: [get('/', 'User-Agent: An OwnAgent/2\r\n'), ok('x')],
  },
  {
    rule: web('http_header; content:"X-Own-A|3A|"; content:!"X-Own-B|3A|";'),
    fires: [get('/', 'X-Own-A: 1\r\n'), ok('x')],
    nearMiss: [get('/', 'X-Own-A: 1\r\nX-Own-B: 1\r\n'), ok('x')],
  },
  {
    rule: web('http_header; content:"X-Own:tight";'),
    fires: [get('/', 'X-Own:tight\r\n'), ok('x')],
    nearMiss: [get('/', 'X-Own: tight\r\n'), ok('x')],
  },
  { rule: web('http_cookie; content:"ownsession=0xff",fast_pattern;') },
  { rule: web('http_client_body; content:"own=1",depth 5;') },
  {
    rule: web('http_client_body; content:"own|3D|../../";'),
    fires: [post('own%3D..%2F..%2F'), ok('x')],
    nearMiss: [post('own%3D..%2F..x'), ok('x')],
  },
  {
    rule: web('http_client_body; content:"own"; pcre:"/^[a-z]{4}=\\d/R";'),
    fires: [post('ownpart=7'), ok('x')],
    nearMiss: [post('ownpart=x'), ok('x')],
  },
  {
    rule: web('http_client_body; content:"ownkey"; isdataat:30,relative; content:!"&",within 30;'),
    fires: [post(`ownkey${'z'.repeat(31)}`), ok('x')],
    nearMiss: [post(`ownkey${'z'.repeat(30)}`), ok('x')],
  },
  { rule: web('content:"OWNRAW / ",depth 9;') },
  // Responses.
  { rule: page('file_data; content:"<own-landing>",fast_pattern,nocase;') },
  { rule: page('file_data; content:"own(",depth 40; content:");",distance 4,within 30;') },
  { rule: page('http_stat_code; content:"207"; http_stat_msg; content:"Own";') },
  { rule: page('http_header; content:"X-Powered-By|3A 20|own/9";') },
  {
    rule: page('file_data; content:"OWNPE",within 5;'),
    fires: [get('/'), ok('OWNPE..')],
    nearMiss: [get('/'), ok('.OWNPE.')],
  },
  { rule: page('http_cookie; content:"ownset=1";') },
  // TCP.
  { rule: raw(4444, 'content:"OWN|00 01|",depth 5; content:"END",distance 4,within 12;') },
  { rule: raw(4444, 'content:"own1",offset 4,depth 8;') },
  {
    rule: raw(4444, 'content:"ownneg"; content:!"never",within 10;'),
    fires: [client('ownneg.xxxxxxxxxxx')],
    nearMiss: [client('ownneg.never.xxxxx')],
  },
  {
    rule: raw(4444, 'content:"ownpcre"; pcre:"/ownpcre\\x3a(\\d+)\\x3b/i";'),
    fires: [client('OWN: ownpcre:77;')],
    nearMiss: [client('OWN: ownpcre:x7;')],
  },
  {
    rule: raw(4444, 'content:"ownlen"; isdataat:!4,relative;'),
    fires: [client('ownlen.123')],
    nearMiss: [client('ownlen.1234')],
  },
  {
    rule: raw(4444, 'content:"ownb",depth 4; byte_test:2,>,500,0,relative;'),
    fires: [client('ownb', [2, 0])],
    nearMiss: [client('ownb', [1, 0])],
  },
  {
    rule: raw(4444, 'content:"ownl",depth 4; byte_test:4,=,7,2,relative,little;'),
    fires: [client('ownl', [9, 9, 7, 0, 0, 0])],
    nearMiss: [client('ownl', [9, 9, 0, 0, 0, 7])],
  },
  {
    rule: raw(4444, 'content:"owns:"; byte_test:6,>,1000,0,relative,string,dec;'),
    fires: [client('owns:001001')],
    nearMiss: [client('owns:001000')],
  },
  {
    rule: raw(4444, 'content:"owna",depth 4; byte_test:1,&,128,0,relative;'),
    fires: [client('owna', [0x90])],
    nearMiss: [client('owna', [0x10])],
  },
  {
    rule: raw(4444, 'content:"ownj",depth 4; byte_jump:2,0,relative; content:"HIT",within 3;'),
    fires: [client('ownj', [0, 3], 'xxxHIT')],
    nearMiss: [client('ownj', [0, 2], 'xxxHIT')],
  },
  {
    rule: raw(4444, 'content:"owng",depth 4; byte_jump:4,0,relative,align,little; content:"HIT",within 3;'),
    fires: [client('owng', [3, 0, 0, 0], 'xxxxHIT')],
    nearMiss: [client('owng', [3, 0, 0, 0], 'xxxHIT.')],
  },
  {
    rule: raw(4444, 'content:"ownx",depth 4; byte_extract:1,0,n,relative; content:"HIT",distance n,within 3;'),
    fires: [client('ownx', [2], 'zzHIT')],
    nearMiss: [client('ownx', [2], 'zHIT.')],
  },
  {
    rule: raw(4444, 'content:"ownm",depth 4; byte_math:bytes 1,offset 4,oper *,rvalue 2,result m; byte_test:1,=,m,5;'),
    fires: [client('ownm', [4, 8])],
    nearMiss: [client('ownm', [4, 9])],
  },
  {
    rule: raw(4444, 'content:"own64:"; base64_decode:bytes 12,relative; base64_data; content:"secret";'),
    fires: [client('own64:c2VjcmV0MTIz')],
    nearMiss: [client('own64:c2VjcmF0MTIz')],
  },
  { rule: raw(4444, 'content:"ownfb"; flowbits:set,own.seen; flowbits:noalert;') },
  {
    rule: raw(4444, 'flowbits:isset,own.first; content:"ownsecond";'),
    fires: [client('ownfirst.'), server('ok'), client('ownsecond')],
    nearMiss: [client('ownFirst.'), server('ok'), client('ownsecond')],
  },
  {
    rule: raw(4444, 'content:"ownfirst",nocase; content:"ownfirst"; flowbits:set,own.first;'),
    fires: [client('ownfirst!')],
    nearMiss: [client('ownFirst!')],
  },
  {
    rule: raw(4444, 'flowbits:isset,own.a|own.b; content:"owneither";'),
    fires: [client('ownset.b.'), server('ok'), client('owneither')],
    nearMiss: [client('ownset.c.'), server('ok'), client('owneither')],
  },
  {
    rule: raw(4444, 'content:"ownset.b"; flowbits:set,own.b&own.d;'),
    nearMiss: [client('ownset.e')],
    fires: [client('ownset.b')],
  },
  {
    rule: raw(4444, 'content:"ownmany"; detection_filter:track by_src,count 2,seconds 60;'),
    fires: ['1', '2', '3', '4'].flatMap((n) => [client(`ownmany.${n}`), server('ok')]),
    nearMiss: [client('ownmany.1'), server('ok')],
  },
  {
    rule: 'alert tcp any any -> any 4444 ( flow:stateless; flags:S;',
    fires: [client('x')],
    nearMiss: [client('x')],
  },
  {
    rule: raw(4444, 'dsize:7<=>9; content:"ownsize";'),
    fires: [client('ownsize99')],
    nearMiss: [client('ownsize999')],
  },
  { rule: raw(25, 'content:"VRFY own",nocase; service:smtp;') },
  { rule: raw(21, 'content:"SITE OWN",nocase; pcre:"/^SITE\\s+OWN/im"; service:ftp;') },
  {
    rule: raw(143, 'content:"LOGIN own"; isdataat:40,relative; content:!"|0A|",within 40; service:imap;'),
    fires: [client(`LOGIN own${'x'.repeat(50)}`)],
    nearMiss: [client(`LOGIN own${'x'.repeat(10)}\n${'x'.repeat(40)}`)],
  },
  {
    rule: `alert tcp any 443 -> any any ( flow:to_client,established; content:"|16 03|",depth 2; content:"Own CA"; service:ssl;`,
    fires: [server([0x16, 3, 1, 0, 9], 'xx.Own CA.')],
    nearMiss: [server([0x17, 3, 1, 0, 9], 'xx.Own CA.')],
  },
  // UDP.
  {
    rule: datagram(
      53,
      'content:"|01 00 00 01 00 00 00 00 00 00|",offset 2,depth 10; content:"|06|owndns|04|test|00|"; service:dns;',
    ),
  },
  { rule: datagram(161, 'content:"ownsnmp"; service:snmp;') },
  { rule: datagram(9999, 'dsize:>20; content:"ownudp",depth 6;') },
  // ICMP.
  { rule: ping('itype:8; icmp_id:31337; content:"ownping";') },
  { rule: ping('itype:3; icode:9; content:"ownreach";') },
];

/** Own rules get SIDs from here, in their order. */
export const FIRST_SID = 9_000_001;
