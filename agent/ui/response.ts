/**
 * Isolating pods from the page: what is asked goes on to who isolates (`respond.url`), with the token of who signed in.
 * The page has no right of its own for it, and what may be done is decided there.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ISOLATIONS_PATH } from '../respond/protocol.ts';
import { Refused } from './refused.ts';
import { parameters } from './requests.ts';
import { single } from './query.ts';
import type { Visitors } from './visitors.ts';

export interface Asked {
  method: 'GET' | 'POST';
  path: string;
  body?: object;
}

/** @throws AskError where nobody answers. */
export type ResponseAsker = (token: string, asked: Asked) => Promise<{ status: number; body: Record<string, unknown> }>;

export function addResponse(app: FastifyInstance, visitors: Visitors, ask: ResponseAsker): void {
  const goOn = async (request: FastifyRequest, asked: Asked): Promise<Record<string, unknown>> => {
    await visitors.signedIn(request);
    const token = visitors.tokenOf(request);
    if (token === undefined) throw new Refused(403, 'pods are isolated by who signed in with a token of the cluster');
    const { status, body } = await answered(ask, token, asked);
    if (status === 200) return body;
    const { error, ...more } = body;
    // Of who isolates; whoever asked here is signed in all the same.
    const shown = status === 401 ? 403 : status;
    throw new Refused(shown, typeof error === 'string' ? error : `who isolates pods answered ${status}`, more);
  };
  app.get('/api/isolations', (request) => {
    const namespace = single('namespace', parameters(request)['namespace']);
    const query = namespace === undefined ? '' : `?${new URLSearchParams({ namespace }).toString()}`;
    return goOn(request, { method: 'GET', path: `${ISOLATIONS_PATH}${query}` });
  });
  app.post('/api/isolations', (request) =>
    goOn(request, { method: 'POST', path: ISOLATIONS_PATH, body: bodyOf(request) }),
  );
  app.post('/api/isolations/release', (request) =>
    goOn(request, { method: 'POST', path: `${ISOLATIONS_PATH}/release`, body: bodyOf(request) }),
  );
}

function bodyOf({ body }: FastifyRequest): object {
  return typeof body === 'object' && body !== null ? body : {};
}

async function answered(ask: ResponseAsker, token: string, asked: Asked) {
  try {
    return await ask(token, asked);
  } catch (error) {
    throw new Refused(502, error instanceof Error ? error.message : String(error));
  }
}
