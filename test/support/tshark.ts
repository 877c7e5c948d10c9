/** Wireshark's reading of packets, to compare with. */
import { execFileSync, spawnSync } from 'node:child_process';

const PROGRAMS = ['tshark', 'tcpdump', 'dig', 'openssl', 'curl', 'ssh', '/usr/sbin/sshd'];

/** The line that says why tests with it are skipped; undefined: they run. */
export function whyNoTshark(): string | undefined {
  const missing = PROGRAMS.filter((program) => spawnSync('sh', ['-c', 'command -v "$0"', program]).status !== 0);
  return missing.length === 0 ? undefined : `no ${missing.join(', no ')}: npm run setup test installs them`;
}

/** A row for each packet that the filter selects; of a field with several values, all, with commas between. */
export function tsharkFields(file: string, filter: string, fields: readonly string[], ...more: string[]): string[][] {
  const output = execFileSync(
    'tshark',
    [
      '-n',
      '-r',
      file,
      '-Y',
      filter,
      '-T',
      'fields',
      '-E',
      'separator=/t',
      '-E',
      'occurrence=a',
      '-E',
      'aggregator=;',
      ...more,
      ...fields.flatMap((field) => ['-e', field]),
    ],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], maxBuffer: 16 << 20 },
  );
  return output
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split('\t'));
}
