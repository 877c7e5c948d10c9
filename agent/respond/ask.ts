/**
 * Asks who isolates pods (`dpi-agent respond serve`), with the token of who wants it. Nothing that leads elsewhere is
 * followed; an answer's bytes and time are bounded, and the token is in no message.
 */
import { readFile } from 'node:fs/promises';
import { errorCode, messageOf } from '../files/errors.ts';
import { isRecord } from '../files/record.ts';
import { stripControls } from '../text.ts';

const ASK_MILLIS = 30_000;
const MAX_ANSWER_BYTES = 4 << 20;
const MAX_SAID = 1_000;

/** `respond` of the configuration. */
export interface RespondAddress {
  url: string;
  caFile?: string | undefined;
}

export interface Answer {
  status: number;
  body: Record<string, unknown>;
}

/** It could not be asked. The message says why, and what to do. */
export class AskError extends Error {}

/** @throws AskError */
export async function ask(
  { url, caFile }: RespondAddress,
  token: string,
  { method, path, body }: { method: 'GET' | 'POST'; path: string; body?: object },
): Promise<Answer> {
  // Takes a while to load.
  const { Agent, request } = await import('undici');
  const ca = caFile === undefined ? {} : { ca: await authorities(caFile) };
  const dispatcher = new Agent({ connect: ca, maxResponseSize: MAX_ANSWER_BYTES });
  try {
    const answer = await request(`${url.replace(/\/+$/, '')}${path}`, {
      dispatcher,
      method,
      headers: { authorization: `Bearer ${token}`, accept: 'application/json', 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(ASK_MILLIS),
    });
    const said: unknown = await answer.body.json();
    return { status: answer.statusCode, body: isRecord(said) ? said : {} };
  } catch (error) {
    const why = stripControls(messageOf(error).replaceAll(token, '***').slice(0, MAX_SAID));
    throw new AskError(`${url} does not answer: ${why}: is dpi-agent respond serve running, and respond.caFile right?`);
  } finally {
    await dispatcher.destroy();
  }
}

async function authorities(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new AskError(`cannot read respond.caFile ${file}: ${errorCode(error) ?? messageOf(error)}`);
  }
}
