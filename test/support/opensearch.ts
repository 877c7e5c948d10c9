/** A real OpenSearch on loopback, as a user without rights. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { connectTo, freePort, nodeSettings, type TestElasticsearch } from './elasticsearch-server.ts';
import { poll } from './poll.ts';
import { PROJECT } from './project.ts';

const NOBODY = 65_534;

/** Of the project's folder: dist/ has no copy. */
const program = (await import(pathToFileURL(join(PROJECT, 'scripts/opensearch.mjs')).href)) as {
  opensearchDirectory: () => string;
  opensearchJava: () => string | undefined;
  whyNoOpensearch: () => string | undefined;
};
export const whyNoOpensearch = program.whyNoOpensearch();

export type TestOpensearch = Pick<TestElasticsearch, 'url' | 'call' | 'refresh' | 'count' | 'documents' | 'stop'>;

export async function startOpensearch(): Promise<TestOpensearch> {
  const directory = mkdtempSync(join(tmpdir(), 'dpi-opensearch-'));
  chmodSync(directory, 0o755);
  const home = join(directory, 'home');
  cpSync(program.opensearchDirectory(), home, { recursive: true });
  for (const name of ['data', 'logs', 'tmp']) mkdirSync(join(directory, name));
  if (process.getuid?.() === 0) execFileSync('chown', ['-R', String(NOBODY), directory]);
  const port = await freePort();
  const child = start(directory, port);
  const client = connectTo(`http://127.0.0.1:${port}`, undefined, undefined);
  const output = followed(child);
  try {
    await poll(async () => {
      if (child.exitCode !== null) throw new Error(`OpenSearch ended\n${output()}`);
      return client.call('GET', '/_cluster/health?wait_for_status=yellow&timeout=1s').then(
        () => true,
        () => false,
      );
    });
  } catch (error) {
    await end(child, directory);
    throw error;
  }
  return { ...client, stop: () => end(child, directory) };
}

function start(directory: string, port: number): ChildProcess {
  return spawn(
    join(directory, 'home/bin/opensearch'),
    Object.entries(nodeSettings(directory, port)).map(([name, value]) => `-E${name}=${value}`),
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: directory,
      ...(process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {}),
      env: {
        PATH: process.env['PATH'],
        HOME: directory,
        OPENSEARCH_JAVA_HOME: program.opensearchJava(),
        OPENSEARCH_TMPDIR: join(directory, 'tmp'),
        // One that lives for a minute spends most of its CPU on a second compiler, which only a long life repays.
        OPENSEARCH_JAVA_OPTS: '-Xms512m -Xmx512m -XX:TieredStopAtLevel=1',
      },
    },
  );
}

/** The end of what it prints. */
function followed(child: ChildProcess): () => string {
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => (output = `${output}${chunk.toString()}`.slice(-16_000)));
  }
  return () => output;
}

/** Its data are not kept: it need not end in order. */
async function end(child: ChildProcess, directory: string): Promise<void> {
  const closed = new Promise((resolve) => child.once('close', resolve));
  if (child.kill('SIGKILL')) await closed;
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
}
