import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { parseRules } from '../../../agent/rulesets/rule.ts';
import { translateRule } from '../../../agent/rulesets/translate/translate.ts';

const VARIABLES = {
  addresses: { HOME_NET: 'any', EXTERNAL_NET: 'any', HTTP_SERVERS: '$HOME_NET' },
  ports: { HTTP_PORTS: 'any', SNORT_HTTP_PORTS: '[80,8080]', SSH_PORTS: '22', ORACLE_PORTS: '1024:' },
};

/** What a rule becomes; its reason behind `not:`. */
function whole(text: string): string {
  const [rule] = parseRules(text, { file: 'a.rules' }).rules;
  if (rule === undefined) throw new Error(`not a rule: ${text}`);
  const translation = translateRule(rule, VARIABLES);
  return translation.kind === 'rule' ? translation.text : `not: ${translation.reason}`;
}

/** What options become, in a rule without services, or with `header` another one. */
function options(text: string, header = 'alert tcp any any -> any any'): string {
  const translated = whole(`${header} ( msg:"m"; ${text} sid:7; rev:1; )`);
  return translated.replace(/^.*? \(msg:"m"; ?/, '').replace(/ ?sid:7; rev:1;\)$/, '');
}

/** The headers that a header and services become. */
function headers(header: string, more = 'content:"abc";'): string[] {
  const lines = whole(`${header} ( ${more} sid:7; )`).split('\n');
  return lines.map((line) => (line.startsWith('not: ') ? line : line.slice(0, line.indexOf(' ('))));
}

describe('a rule', () => {
  test('of the tutorials', () => {
    const snort =
      'alert tcp $HOME_NET any -> $EXTERNAL_NET $HTTP_PORTS ( msg:"A bot reports home; \\"now\\""; flow:to_server,established; http_method; ' +
      'content:"POST"; http_header; content:"User-Agent|3A 20|Mozilla/4.0|0D 0A|"; http_client_body; content:"smk=",depth 4; ' +
      'metadata:ruleset community; service:http; reference:url,example.test/a; classtype:trojan-activity; sid:7; rev:6; )';
    expect(whole(snort)).toBe(
      'alert http $HOME_NET any -> $EXTERNAL_NET any (msg:"A bot reports home\\; \\"now\\""; flow:to_server,established; http.method; ' +
        'content:"POST"; http.header; url_decode; content:"User-Agent|3A| Mozilla/4.0|0D 0A|"; http.request_body; url_decode; ' +
        'content:"smk="; depth:4; reference:url,example.test/a; classtype:trojan-activity; metadata:ruleset community; sid:7; rev:6;)',
    );
  });

  test('over several lines is one line', () => {
    expect(whole('alert tcp any any -> any any (\n  msg:"m";\n  content:"abc",\n    nocase;\n  sid:7;\n)')).toBe(
      'alert tcp any any -> any any (msg:"m"; content:"abc"; nocase; sid:7;)',
    );
  });

  test('keeps its generator, priority and references', () => {
    expect(options('gid:3; priority:2; reference:cve,2021-44228; reference:url,a.test/x\\;y; metadata:a b, c d;')).toBe(
      'reference:cve,2021-44228; reference:url,a.test/x%3By; priority:2; metadata:a b, c d; gid:3;',
    );
  });

  test('longer than Suricata reads is not translated', () => {
    expect(options(`content:"${'a'.repeat(9000)}";`)).toMatch(/^not: translated it has more than 8,190 characters/);
  });
});

describe('patterns', () => {
  test.each([
    ['content:"abc";', 'content:"abc";'],
    ['content:!"abc",nocase;', 'content:!"abc"; nocase;'],
    ['content:"a|3B 22|b\\;c\\:|00|";', 'content:"a|3B 22|b|3B|c|3A 00|";'],
    ['content:"ä";', 'content:"|C3 A4|";'],
    ['content:"abc",depth 9,offset 2;', 'content:"abc"; offset:2; depth:9;'],
    [
      'content:"a"; content:"b",distance -1,within 4,fast_pattern;',
      'content:"a"; content:"b"; distance:-1; within:4; fast_pattern;',
    ],
    [
      'content:"abcdef",fast_pattern,fast_pattern_offset 1,fast_pattern_length 3;',
      'content:"abcdef"; fast_pattern:1,3;',
    ],
    // A negated pattern can't be searched for first.
    ['content:!"abc",fast_pattern;', 'content:!"abc";'],
    // What is relative to the start of a buffer counts from there.
    ['content:"ab",within 2;', 'content:"ab"; depth:2;'],
    ['content:"ab",distance 3,within 9;', 'content:"ab"; offset:3; depth:9;'],
    ['content:!"ab",within 2; content:"c",distance 0;', 'content:!"ab"; depth:2; content:"c"; offset:0;'],
    [
      'pcre:"/a\\"b\\;\\//Ri"; pcre:!"/c/smxAEGO"; pcre:"/d/R";',
      'pcre:"/a\\x22b\\x3b\\//i"; pcre:!"/c/smxAEG"; pcre:"/d/R";',
    ],
  ])('%s', (snort, suricata) => expect(options(snort)).toBe(suricata));

  test.each([
    ['content:"";', 'an empty pattern'],
    ['content:"|0|";', 'bytes in hexadecimal are not pairs of digits between two bars: "|0|"'],
    ['content:"abc",depth 2;', 'content: depth is shorter than the pattern'],
    ['content:"abc",depth 5,within 5;', 'content: both relative and absolute'],
    ['content:"abc",width 16;', 'content: Suricata has nothing like "width 16"'],
    ['content:"\uFFFD";', 'a pattern with bytes that are not UTF-8: write them in hexadecimal'],
    ['pcre:"/a/U";', 'pcre: the flag U'],
    ['pcre:"m!a!";', 'pcre is not a pattern between two /: "\\"m!a!\\""'],
    ['regex:"/a/";', 'regex: Suricata has nothing like it'],
    ['file_type:"PDF";', 'file_type: Suricata has nothing like it'],
  ])('%s: %s', (snort, reason) => expect(options(snort)).toBe(`not: ${reason}`));
});

describe('buffers', () => {
  test.each([
    ['http_uri; content:"a"; http_raw_uri; content:"b";', 'http.uri; content:"a"; http.uri.raw; content:"b";'],
    ['http_cookie; content:"a=1";', 'http.cookie; url_decode; content:"a=1";'],
    [
      'http_stat_code; content:"404"; http_stat_msg; content:"No";',
      'http.stat_code; content:"404"; http.stat_msg; content:"No";',
    ],
    ['http_header: field user-agent; content:"curl";', 'http.user_agent; url_decode; content:"curl";'],
    ['http_header: field host; content:"A.test";', 'http.host.raw; url_decode; content:"A.test";'],
    // `url_decode` would make a space of it.
    ['http_client_body; content:"a+b";', 'http.request_body; content:"a+b";'],
    ['http_client_body; pcre:"/a\\+b+/";', 'http.request_body; pcre:"/a\\+b+/";'],
    ['http_client_body; pcre:"/ab+/";', 'http.request_body; url_decode; pcre:"/ab+/";'],
    // Suricata writes headers anew, as `Name: value` and CRLF.
    ['http_header; content:"Accept:*/*";', 'http.header.raw; content:"Accept|3A|*/*";'],
    ['http_header; content:"a|0A|";', 'http.header.raw; content:"a|0A|";'],
    ['http_header; content:"|0A|Referer: http://";', 'http.header; url_decode; content:"|0A|Referer|3A| http|3A|//";'],
    // Payload comes first, and options of one buffer together: coming back to it starts at its start again.
    [
      'http_uri; content:"a"; pkt_data; content:"p"; http_uri; content:"b",distance 1; content:"c",distance 2;',
      'content:"p"; http.uri; content:"a"; content:"b"; offset:1; content:"c"; distance:2;',
    ],
    ['file_data; content:"MZ",within 2;', 'file.data; content:"MZ"; depth:2;'],
    ['raw_data; content:"a"; pkt_data; content:"b",distance 0;', 'content:"a"; content:"b"; offset:0;'],
    [
      'content:"x"; base64_decode:bytes 8,offset 1,relative; base64_data; content:"y",fast_pattern; pkt_data; content:"z";',
      'content:"x"; base64_decode:bytes 8, offset 1, relative; content:"z"; base64_data; content:"y";',
    ],
    [
      'http_header; base64_decode:relative; base64_data; content:"y"; http_uri; content:"u";',
      'http.header; url_decode; base64_decode; base64_data; content:"y"; http.uri; content:"u";',
    ],
    ['sip_method:invite;', 'sip.method; content:"INVITE"; nocase; bsize:6;'],
    ['sip_stat_code:4;', 'sip.stat_code; content:"4"; startswith;'],
  ])('%s', (snort, suricata) => expect(options(snort)).toBe(suricata));

  test.each([
    [
      'http_uri; content:"a"; http_stat_code; content:"200";',
      'http_uri is of requests and http_stat_code of responses: Suricata takes one direction a rule',
    ],
    ['flow:to_client; http_uri; content:"a";', 'http_uri is of requests, and the rule looks at responses'],
    ['flow:to_server; http_stat_msg; content:"a";', 'http_stat_msg is of responses, and the rule looks at requests'],
    ['http_uri: path; content:"a";', 'http_uri: Suricata has no buffer for path'],
    ['http_header: field x-mine; content:"a";', 'http_header: Suricata has no buffer for field x-mine'],
    ['http_cookie; content:"a"; file_data;', 'file_data: selected, and nothing looked for in it'],
    ['base64_data; content:"a";', 'base64_data without base64_decode'],
    ['http_uri; content:"a"; sip_method:bye;', 'no flow in Suricata has http_uri and sip_method'],
    ['ttl:1; http_uri; content:"a";', 'ttl is about one packet, and Suricata looks at http_uri apart from packets'],
    ['service:ftp; file_data; content:"a";', 'this Suricata finds no file_data in tcp flows of ftp'],
    ['js_data; content:"a";', 'js_data: Suricata has nothing like it'],
  ])('%s: %s', (snort, reason) => expect(options(snort)).toBe(`not: ${reason}`));
});

describe('lengths and numbers', () => {
  test.each([
    // Snort asks for a byte at the cursor plus N.
    ['isdataat:9; isdataat:!9;', 'isdataat:9; isdataat:!9;'],
    [
      'content:"a"; isdataat:9,relative; isdataat:!1,relative;',
      'content:"a"; isdataat:10,relative; isdataat:!2,relative;',
    ],
    ['isdataat:9,relative;', 'isdataat:9;'],
    [
      'http_uri; bufferlen:5; bufferlen:>5; bufferlen:<5; bufferlen:5<=>9; bufferlen:5<>9;',
      'http.uri; bsize:5; bsize:>5; bsize:<5; bsize:4<>10; bsize:5<>9;',
    ],
    ['bufferlen:5;', 'isdataat:4; isdataat:!5;'],
    ['bufferlen:>5; bufferlen:<5;', 'isdataat:5; isdataat:!4;'],
    [
      'file_data; content:"a"; bufferlen:3<=>5,relative;',
      'file.data; content:"a"; isdataat:3,relative; isdataat:!6,relative;',
    ],
    ['dsize:5; dsize:>5; dsize:5<=>9; dsize:!5; dsize:>=5;', 'dsize:5; dsize:>5; dsize:4<>10; dsize:!5; dsize:>4;'],
    ['byte_test:2,>,0x10,4,little; byte_test:1,!&,128,2;', 'byte_test:2,>,0x10,4,little; byte_test:1,!&,128,2;'],
    ['content:"a"; byte_test:10,>,99,1,relative,string,dec;', 'content:"a"; byte_test:10,>,99,1,relative,string,dec;'],
    ['content:"a"; byte_test:4,<,9,0,string,relative;', 'content:"a"; byte_test:4,<,9,0,relative,string,dec;'],
    ['byte_test:2,=,1,0,relative,bitmask 0x8000;', 'byte_test:2,=,1,0,bitmask 0x8000;'],
    [
      'byte_jump:4,-4,align 4,from_beginning,post_offset -2,multiplier 2; content:"a",within 4;',
      'byte_jump:4,-4,align,from_beginning,post_offset -2,multiplier 2; content:"a"; within:4;',
    ],
    [
      'byte_extract:1,0,len; content:"ab",distance 0,within len; byte_test:1,=,len,0,relative;',
      'byte_extract:1,0,len; content:"ab"; distance:0; within:len; byte_test:1,=,len,0,relative;',
    ],
    [
      'byte_math:bytes 1,offset 2,oper +,rvalue 3,result x,string hex,bitmask 0xF0; byte_jump:1,x;',
      'byte_math:bytes 1, offset 2, oper +, rvalue 3, result x, string hex, bitmask 0xF0; byte_jump:1,x;',
    ],
  ])('%s', (snort, suricata) => expect(options(snort)).toBe(suricata));

  test.each([
    [
      'byte_extract:1,0,n; content:"a"; isdataat:n,relative;',
      'isdataat: Suricata counts one byte less from a relative variable',
    ],
    [
      'byte_extract:1,0,n; http_uri; content:"a",offset n;',
      'content: the variable n is read from another buffer, which Suricata looks at apart',
    ],
    ['content:"a",offset n;', 'content: the variable n is not read before'],
    ['byte_jump:4,0,align 2;', 'byte_jump: Suricata has nothing like "align 2"'],
    ['byte_test:8,>,1,0;', 'byte_test: "8" bytes'],
    ['dsize:9<>10;', 'dsize can never match: "9<>10"'],
    ['bufferlen:!5;', 'bufferlen: Suricata has no negated length of a buffer that it sees in parts'],
  ])('%s: %s', (snort, reason) => expect(options(snort)).toBe(`not: ${reason}`));
});

describe('flows and packets', () => {
  test.each([
    ['flow:established,from_client,only_stream;', 'flow:to_server,established,only_stream;'],
    ['flow:to_client,established,no_stream;', 'flow:to_client,established,no_stream;'],
    ['flow:stateless;', 'flow:stateless;'],
    [
      'flowbits:set,a&b; flowbits:isset,c|d; flowbits:isnotset,e; flowbits:noalert;',
      'flowbits:set,a; flowbits:set,b; flowbits:isset,c|d; flowbits:isnotset,e; flowbits:noalert;',
    ],
    ['detection_filter:track by_src,count 5,seconds 60;', 'detection_filter:track by_src, count 5, seconds 60;'],
    [
      'flags:AS,12; ack:0; seq:1; window:55; fragbits:!M; ttl:>1; id:7; tos:4;',
      'tcp.flags:AS,12; tcp.ack:0; tcp.seq:1; tcp.window:55; fragbits:!M; ttl:>1; id:7; tos:4;',
    ],
    [
      'ip_proto:>2; ipopts:lsrr; fragoffset:>0; rpc:100000,*,4;',
      'ip_proto:>2; ipopts:lsrr; fragoffset:>0; rpc:100000,*,4;',
    ],
    ['itype:8; icode:>0; icmp_id:1; icmp_seq:2;', 'itype:8; icode:>0; icmp_id:1; icmp_seq:2;'],
    [
      'ssl_state:client_hello,server_hello; ssl_version:sslv2;',
      'ssl_state:client_hello|server_hello; ssl_version:sslv2;',
    ],
    [
      'dce_iface:uuid 4b324fc8-1670-01d3-1278-5a47bf6ee188,version <2; dce_opnum:"1-3,9"; dce_stub_data; content:"a";',
      'dcerpc.iface:4b324fc8-1670-01d3-1278-5a47bf6ee188,<2; dcerpc.opnum:1-3,9; dcerpc.stub_data; content:"a";',
    ],
    ['tag:session,packets 5; rem:"why"; target:dst_ip;', 'target:dest_ip;'],
  ])('%s', (snort, suricata) => expect(options(snort)).toBe(suricata));

  test.each([
    ['flow:sideways;', 'flow: Suricata has nothing like "sideways"'],
    ['flowbits:set,a b;', 'flowbits: not a name: "a b"'],
    ['detection_filter:count 5;', 'detection_filter is not track, count, seconds: "count 5"'],
    ['id:>7;', 'id: Suricata takes one number here, not ">7"'],
    ['flags:X;', 'flags is not understood: "X"'],
  ])('%s: %s', (snort, reason) => expect(options(snort)).toBe(`not: ${reason}`));
});

describe('headers', () => {
  test.each([
    // Without a service: as it is.
    [
      'alert tcp $HOME_NET [80, 443] <> !10.0.0.0/8 !25',
      'content:"a";',
      ['alert tcp $HOME_NET [80,443] <> !10.0.0.0/8 !25'],
    ],
    ['alert icmp any any -> any any', 'itype:8;', ['alert icmp any any -> any any']],
    ['block tcp any any -> any 80', 'content:"a";', ['drop tcp any any -> any 80']],
    // The service's flows on any port, and the ports for flows of no known service.
    [
      'alert tcp any any -> any 25',
      'service:smtp; content:"a";',
      ['alert tcp any any -> any 25', 'alert smtp any any -> any !25'],
    ],
    [
      'alert tcp any any -> any !25',
      'service:smtp; content:"a";',
      ['alert tcp any any -> any !25', 'alert smtp any any -> any 25'],
    ],
    [
      'alert tcp any [21,25] -> any any',
      'service:ftp,smtp; content:"a";',
      ['alert tcp any [21,25] -> any any', 'alert ftp any ![21,25] -> any any', 'alert smtp any ![21,25] -> any any'],
    ],
    [
      'alert tcp any any -> any $HTTP_PORTS',
      'service:http; content:"a";',
      ['alert tcp any any -> any $SNORT_HTTP_PORTS', 'alert http any any -> any !$SNORT_HTTP_PORTS'],
    ],
    // A protocol of both transports, by an option.
    [
      'alert udp any any -> any 53',
      'service:dns; content:"a";',
      ['alert udp any any -> any 53', 'alert udp any any -> any !53'],
    ],
    // Without ports, and with ports at both ends, there is no header for the rest.
    ['alert tcp any any -> any any', 'service:smtp; content:"a";', ['alert tcp any any -> any any']],
    ['alert tcp any 20 -> any 21', 'service:ftp; content:"a";', ['alert tcp any 20 -> any 21']],
    // A service that Suricata does not know.
    ['alert tcp any any -> any 23', 'service:pop3; content:"a";', ['alert tcp any any -> any 23']],
    // A protocol's buffers are there in its flows alone.
    ['alert tcp any any -> any 80', 'http_uri; content:"a";', ['alert http any any -> any any']],
    ['alert tcp any any -> any 80', 'service:http; http_uri; content:"a";', ['alert http any any -> any any']],
    [
      'alert tcp any 80 -> any any',
      'service:ftp-data,http,imap; file_data; content:"a";',
      ['alert http any any -> any any', 'alert ftp-data any any -> any any'],
    ],
    ['alert tcp any 80 -> any any', 'file_data; content:"a";', ['alert tcp any 80 -> any any']],
    [
      'alert tcp any any -> any 445',
      'service:dcerpc,netbios-ssn; dce_stub_data; content:"a";',
      ['alert dcerpc any any -> any any'],
    ],
    ['alert tcp any any -> any 443', 'service:ssl; ssl_state:client_hello;', ['alert tls any any -> any any']],
    ['alert udp any any -> any 5060', 'sip_method:bye;', ['alert sip any any -> any any']],
    // Snort's headers by service.
    ['alert http', 'http_uri; content:"a";', ['alert http any any -> any any']],
    ['alert smtp any any -> any any', 'content:"a";', ['alert smtp any any -> any any']],
    ['alert file', 'file_data; content:"a";', ['alert tcp any any -> any any']],
  ])('%s ( %s )', (header, more, expected) => expect(headers(header, more)).toEqual(expected));

  test.each([
    ['alert tcp any any -> any $NOPE', '$NOPE is not among the variables that Suricata is configured with'],
    ['alert tcp !$HOME_NET any -> any any', '!$HOME_NET matches nothing: $HOME_NET is any'],
    ['alert', 'a rule without a header is for a part of Snort that Suricata does not have'],
    ['log tcp any any -> any any', 'the action log has no like in Suricata'],
    ['alert pop3 any any -> any any', 'Suricata has no protocol for pop3'],
    ['alert tcp any any -> any', 'not a header: "alert tcp any any -> any"'],
  ])('%s: %s', (header, reason) => expect(headers(header)).toEqual([`not: ${reason}`]));

  test('what is counted is looked at packet by packet, where there are packets', () => {
    const count = 'detection_filter:track by_src,count 5,seconds 60;';
    expect(headers('alert tcp any any -> any 4444', `content:"a"; ${count}`)).toEqual([
      'alert tcp-pkt any any -> any 4444',
    ]);
    expect(headers('alert udp any any -> any 4444', `content:"a"; ${count}`)).toEqual([
      'alert udp any any -> any 4444',
    ]);
    expect(headers('alert tcp any any -> any 80', `http_uri; content:"a"; ${count}`)).toEqual([
      'alert http any any -> any any',
    ]);
  });

  test('rules that one becomes have the same SID, and a generator id each', () => {
    const lines = whole('alert udp any any -> any 53 ( content:"a"; service:dns; gid:3; sid:7; )').split('\n');
    expect(lines).toEqual([
      'alert udp any any -> any 53 (content:"a"; gid:3; sid:7;)',
      'alert udp any any -> any !53 (app-layer-protocol:dns; content:"a"; gid:100000003; sid:7;)',
    ]);
  });
});

describe('whatever a rule holds', () => {
  const word = fc.constantFrom(
    'content',
    'pcre',
    'http_uri',
    'http_header',
    'byte_test',
    'byte_jump',
    'byte_extract',
    'byte_math',
    'isdataat',
    'bufferlen',

    'flow',
    'flowbits',
    'service',
    'dsize',
    'itype',
    'ssl_state',
    'dce_iface',
    'base64_decode',
    'base64_data',
    'pkt_data',
    'file_data',

    'detection_filter',
    'reference',
    'metadata',
    'flags',
    'sip_method',
    'rpc',
    'target',
    'nosuch',
    'constructor',
    '__proto__',
  );
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 30 }),
    fc
      .array(
        fc.constantFrom(
          '"',
          '\\',
          '|',
          '0D',
          ',',
          '!',
          '/',
          'relative',
          'depth 4',
          ' ',
          '4',
          '<>',
          'a',
          ';',
          ':',
          '$',
          '[',
        ),
        { maxLength: 12 },
      )
      .map((parts) => parts.join('')),
  );
  const rule = fc
    .tuple(
      fc.constantFrom('tcp any any -> any 25', 'udp any any -> any any', 'http', 'file', 'ip $X any <> any [1,2', ''),
      fc.array(fc.tuple(word, text), { maxLength: 12 }),
    )
    .map(
      ([header, parts]) => `alert ${header} ( ${parts.map(([key, value]) => `${key}:${value};`).join(' ')} sid:7; )`,
    );

  test('it is translated to lines of one rule each that are read again, or refused with a printable reason', () => {
    fc.assert(
      fc.property(rule, (snort) => {
        for (const one of parseRules(snort, { file: 'a' }).rules) {
          const translation = translateRule(one, VARIABLES);
          if (translation.kind === 'refused') {
            expect(translation.reason).not.toBe('');
            continue;
          }
          const again = parseRules(translation.text, { file: 'b' });
          expect(again.problems).toEqual([]);
          expect(again.rules.map(({ sid }) => sid)).toEqual(translation.text.split('\n').map(() => one.sid));
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('time is linear in its length', () => {
    // Ten times as long would take a hundred times as long.
    for (const part of [
      'content:"a",distance 0; ',
      'http_uri; pkt_data; ',
      `content:"${'|41|'.repeat(9)}"; `,
      'pcre:"/\\;\\;\\;/"; ',
      'byte_test:1,>,1,1; ',
    ]) {
      const long = `alert tcp any any -> any any ( ${part.repeat(Math.floor(200_000 / part.length))} sid:7; )`;
      expect(whole(long)).toMatch(/^not: /);
    }
    expect(whole(`alert tcp any ${'['.repeat(100_000)} -> any any ( sid:7; )`)).toMatch(/^not: /);
  });
});
