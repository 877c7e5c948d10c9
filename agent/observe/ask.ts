/** Asks a running agent for its snapshot. */
import { request } from 'node:http';
import { request as requestTls } from 'node:https';
import type { Snapshot } from './snapshot.ts';

/** Of 4,093 endpoints, each with long names. */
const MAX_BYTES = 32 << 20;

/** Where an agent answers: its unix socket, or the address of its probes. */
export type Address = { socket: string } | { url: string };

/** @throws Error that says why there is no snapshot; `code` where it is the system's. */
export async function askStatus(address: Address, timeoutMillis: number): Promise<Snapshot> {
  const { status, text } = await get(address, timeoutMillis);
  if (status !== 200) throw new Error(`it answered ${status}: ${text.trim().slice(0, 500)}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error('it answered no JSON: is it an agent?');
  }
  if (!isSnapshot(value)) throw new Error('it answered no status: is it an agent, of this version?');
  return value;
}

function get(address: Address, timeoutMillis: number): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeoutMillis);
    const sent =
      'socket' in address
        ? request({ socketPath: address.socket, path: '/status', agent: false, signal })
        : (address.url.startsWith('https:') ? requestTls : request)(new URL('/status', address.url), {
            agent: false,
            signal,
          });
    const fail = (error: Error): void => {
      reject(signal.aborted ? new Error(`no answer within ${timeoutMillis / 1000} s`) : error);
    };
    sent.on('error', fail);
    sent.on('response', (response) => {
      const parts: Buffer[] = [];
      let size = 0;
      response.on('error', fail);
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_BYTES) response.destroy(new Error(`its answer is larger than ${MAX_BYTES} bytes`));
        parts.push(chunk);
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString() }));
    });
    sent.end();
  });
}

/** As far as it must be of the right shape to be shown. */
function isSnapshot(value: unknown): value is Snapshot {
  const snapshot = value as Partial<Snapshot> | null;
  return (
    typeof snapshot === 'object' &&
    snapshot !== null &&
    typeof snapshot.time === 'number' &&
    typeof snapshot.agent === 'object' &&
    typeof snapshot.engine === 'object' &&
    typeof snapshot.rules === 'object' &&
    typeof snapshot.alerts === 'object' &&
    [snapshot.problems, snapshot.lanes, snapshot.endpoints, snapshot.resources, snapshot.sinks].every(Array.isArray)
  );
}
