/** SMTP (RFC 5321): who writes to whom, and what the server said to it. */
import type { SmtpFacts } from '../../events/app.ts';
import { linesOf } from './lines.ts';
import type { Run } from './pieces.ts';
import { filled, short } from './text.ts';

const MAX_RECIPIENTS = 8;

export function isSmtp(client: Buffer, server: Buffer): boolean {
  const asked = client.toString('latin1', 0, 64);
  if (/^(?:EHLO|HELO|LHLO)\s/i.test(asked)) return true;
  return /^220[ -][^\r\n]{0,256}E?SMTP/i.test(server.toString('latin1', 0, 320));
}

export function smtpFacts(client: Run | undefined, server: Run | undefined): SmtpFacts {
  const lines = linesOf(client).map(({ text }) => text);
  const data = lines.findIndex((line) => /^DATA$/i.test(line));
  const commands = data < 0 ? lines : lines.slice(0, data);
  const message = data < 0 ? [] : lines.slice(data + 1);
  const head = message.slice(0, message.includes('') ? message.indexOf('') : message.length);
  const first = (of: readonly string[], pattern: RegExp): string | undefined =>
    of.map((line) => pattern.exec(line)?.[1]).find((found) => found !== undefined);
  return filled<SmtpFacts>({
    helo: short(first(commands, /^(?:EHLO|HELO|LHLO)\s+(\S+)/i) ?? '', 255),
    from: short(first(commands, /^MAIL FROM:\s{0,8}<?([^>\s]*)/i) ?? '', 254),
    to: commands
      .flatMap((line) => /^RCPT TO:\s{0,8}<?([^>\s]+)/i.exec(line)?.[1] ?? [])
      .slice(0, MAX_RECIPIENTS)
      .map((address) => short(address, 254)),
    subject: short(first(head, /^Subject:\s{0,8}(\S.*)/i) ?? '', 512),
    reply: short(lastReply(server) ?? '', 512),
  });
}

/** Of the replies, the last that is not the farewell to QUIT. */
export function lastReply(server: Run | undefined): string | undefined {
  const replies = linesOf(server).map(({ text }) => text);
  return replies.findLast((text) => /^[1-5]\d\d /.test(text) && !text.startsWith('221'));
}
