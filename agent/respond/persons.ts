/**
 * A person, by a token of the cluster (TokenReview), and what it may do about pods of a namespace (SubjectAccessReview):
 * `create`, `delete` and `list` on deeppacketinspections/isolations, which is no resource, only the name of a right.
 * Nothing is remembered: who acts is rare, and a right that was taken away is gone at once.
 */
import type { ApiClient } from '../kube/api.ts';
import { list, record, text } from '../kube/fields.ts';
import { stripControls } from '../text.ts';

const RESOURCE = 'deeppacketinspections';
export const SUBRESOURCE = 'isolations';
const MAX_TOKEN = 16_384;

export type RespondVerb = 'create' | 'delete' | 'list';

export interface Person {
  name: string;
  /** @param namespace undefined: in all of them. */
  may(verb: RespondVerb, namespace?: string): Promise<boolean>;
}

/** @returns undefined where the token is none of the cluster. @throws ApiError */
export async function personOf(client: Pick<ApiClient, 'create'>, token: string): Promise<Person | undefined> {
  if (token.length > MAX_TOKEN || !/^[\x21-\x7e]+$/.test(token)) return undefined;
  const answer = await client.create('/apis/authentication.k8s.io/v1/tokenreviews', {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenReview',
    spec: { token },
  });
  const status = record(record(answer)['status']);
  if (status['authenticated'] !== true) return undefined;
  const user = record(status['user']);
  const name = text(user['username']);
  const subject = {
    user: name,
    uid: text(user['uid']),
    groups: list(user['groups']),
    extra: record(user['extra']),
  };
  return {
    name: stripControls(name.slice(0, 300)),
    may: (verb, namespace) => may(client, subject, verb, namespace),
  };
}

async function may(
  client: Pick<ApiClient, 'create'>,
  subject: object,
  verb: RespondVerb,
  namespace: string | undefined,
): Promise<boolean> {
  const answer = await client.create('/apis/authorization.k8s.io/v1/subjectaccessreviews', {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SubjectAccessReview',
    spec: {
      ...subject,
      resourceAttributes: {
        verb,
        group: 'projectcalico.org',
        resource: RESOURCE,
        subresource: SUBRESOURCE,
        ...(namespace === undefined ? {} : { namespace }),
      },
    },
  });
  return record(record(answer)['status'])['allowed'] === true;
}
