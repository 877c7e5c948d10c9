/** FTP's control connection (RFC 959). Passwords are not told. */
import type { FtpFacts } from '../../events/app.ts';
import { linesOf } from './lines.ts';
import type { Run } from './pieces.ts';
import { lastReply } from './smtp.ts';
import { filled, short } from './text.ts';

const MAX_COMMANDS = 16;

export function isFtp(client: Buffer, server: Buffer): boolean {
  const asked = client.toString('latin1', 0, 64);
  const greeting = server.toString('latin1', 0, 8);
  return /^220[ -]/.test(greeting) && /^(?:USER|AUTH|FEAT|SYST|OPTS|QUIT)\b/i.test(asked);
}

export function ftpFacts(client: Run | undefined, server: Run | undefined): FtpFacts {
  const lines = linesOf(client).map(({ text }) => text);
  const users = lines.flatMap((line) => /^USER\s+(\S.*)/i.exec(line)?.[1] ?? []);
  return filled<FtpFacts>({
    user: short(users.at(-1) ?? '', 255),
    commands: lines
      .filter((line) => line !== '')
      .slice(-MAX_COMMANDS)
      .map((line) => short(/^(?:PASS|ACCT)\b/i.test(line) ? `${line.slice(0, 4)} …` : line, 255)),
    reply: short(lastReply(server) ?? '', 512),
  });
}
