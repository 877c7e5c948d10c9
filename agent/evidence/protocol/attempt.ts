/** Parsers read hostile bytes: one that throws costs what it reads only, and is counted. */

/** What can fail, for the label of a metric. */
export const PARSERS = [
  'http',
  'http.body',
  'http2',
  'dns',
  'tls',
  'tls.certificate',
  'quic',
  'ssh',
  'smtp',
  'ftp',
] as const;
export type Parser = (typeof PARSERS)[number];

/** @returns undefined when it threw. */
export type Attempt = <T>(parser: Parser, read: () => T) => T | undefined;

export function createAttempt(failed: (parser: Parser) => void): Attempt {
  return (parser, read) => {
    try {
      return read();
    } catch {
      failed(parser);
      return undefined;
    }
  };
}
