/** What an alert's flow said: request and answer in one place, and whether it worked. */
import type { JSX } from 'preact';
import { outcomeText } from '../../../agent/events/outcomes.ts';
import { fields, text, type Fields } from './fields.ts';
import { Text } from '../text.tsx';
import type { Location } from '../url.ts';
import { Value } from '../value.tsx';

/** Fields of the query language, by where they are in `record.app`. */
const QUERIES: Readonly<Record<string, string>> = {
  'http.method': 'method',
  'http.url': 'url',
  'http.user_agent': 'useragent',
  'http.status': 'status',
  'tls.sni': 'sni',
  'tls.ja3': 'ja3',
  'tls.ja4': 'ja4',
  'ssh.hassh': 'hassh',
  'ssh.hassh_server': 'hassh',
  'dns.questions.name': 'domain',
};

const MOST_FACTS = 100;

interface Said {
  path: string;
  value: string;
}

export function Protocol({ record, place }: { record: Fields; place: Location }): JSX.Element | null {
  const outcome = text(record['outcome']);
  if (outcome === '') return null;
  const app = fields(record['app']);
  const community = text(record['community_id']);
  const bodies = [bodyOf(app, 'request'), bodyOf(app, 'response')];
  return (
    <section>
      <h3>Protocol</h3>
      <dl class="facts">
        <Row name="Outcome">
          <Value place={place} field="outcome" value={outcome}>
            {outcomeText(outcome) ?? <Text>{outcome}</Text>}
          </Value>
        </Row>
        {text(app['protocol']) !== '' && (
          <Row name="Protocol">
            <Value place={place} field="app" value={text(app['protocol'])} />
          </Row>
        )}
        {saidOf(app).map(({ path, value }, index) => (
          <Row key={index} name={labelOf(path, app)}>
            {QUERIES[path] === undefined ? (
              <Text>{value}</Text>
            ) : (
              <Value place={place} field={QUERIES[path]} value={value} />
            )}
          </Row>
        ))}
        {community !== '' && (
          <Row name="Community ID">
            <Value place={place} field="community" value={community} />
          </Row>
        )}
      </dl>
      {bodies.map(
        (body, index) =>
          body !== '' && (
            <div key={index}>
              <h4>{index === 0 ? 'Request, its first bytes' : 'Answer, its first bytes'}</h4>
              <pre tabIndex={0} aria-label={index === 0 ? 'First bytes of the request' : 'First bytes of the answer'}>
                <Text>{body}</Text>
              </pre>
            </div>
          ),
      )}
    </section>
  );
}

function Row({ name, children }: { name: string; children: JSX.Element }): JSX.Element {
  return (
    <div>
      <dt>
        <Text>{name}</Text>
      </dt>
      <dd>{children}</dd>
    </div>
  );
}

function bodyOf(app: Fields, side: 'request' | 'response'): string {
  return text(fields(fields(app['http'])[side])['body']);
}

/** Without the protocol's name, where only one is told. */
function labelOf(path: string, app: Fields): string {
  const isOnly = Object.keys(app).filter((key) => key !== 'protocol').length === 1;
  const label = isOnly ? path.slice(path.indexOf('.') + 1) : path;
  return label.replaceAll('.', ' ').replaceAll('_', ' ');
}

/** Everything but bodies, in its order. */
function saidOf(app: Fields): Said[] {
  const said: Said[] = [];
  const visit = (value: unknown, path: string): void => {
    if (said.length >= MOST_FACTS || path === 'protocol' || path.endsWith('.body')) return;
    if (typeof value === 'string' || typeof value === 'number') said.push({ path, value: String(value) });
    else if (Array.isArray(value)) for (const each of value) visit(each, path);
    else for (const [key, inner] of Object.entries(fields(value))) visit(inner, path === '' ? key : `${path}.${key}`);
  };
  visit(app, '');
  return said;
}
