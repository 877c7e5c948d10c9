/** One alert: who, what, why, the bytes, and what to do with it. */
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { AlertDetail, AlertRow, Session, State } from '../../agent/ui/api.ts';
import { TACTICS } from '../../agent/events/tactics.ts';
import { CopyButton, Icon, LevelBadge, Problem, STATE_NAMES } from './parts.tsx';
import { useAnswer } from './server.ts';
import { withMark, type Mark } from './rows.ts';
import { bytesAsHex, bytesAsText, fromBase64, grouped, marked, Text } from './text.tsx';
import { fullMoment } from './time.ts';
import type { Location } from './url.ts';
import { Value } from './value.tsx';

const FIRST_BYTES = 2048;

interface Props {
  id: string;
  /** As the list has it, with what was made of it meanwhile. */
  row: AlertRow | undefined;
  /** What was made of it meanwhile, where the list no longer has it. */
  mark: Mark | undefined;
  place: Location;
  session: Session;
  close: () => void;
  markAs: (state: State) => void;
}

export function Detail({ id, row: listed, mark, place, session, close, markAs }: Props): JSX.Element {
  const answer = useAnswer<AlertDetail>(`/api/alerts/${encodeURIComponent(id)}`);
  const title = useRef<HTMLHeadingElement>(null);
  useEffect(() => title.current?.focus({ preventScroll: true }), []);
  const loaded = newer(answer.data?.row, listed);
  const row = loaded === undefined || mark === undefined ? loaded : withMark(loaded, mark);
  return (
    <aside class="detail" aria-labelledby="detail-title" aria-busy={answer.loading}>
      <div class="detail-head">
        {row !== undefined && <LevelBadge level={row.level} />}
        {row !== undefined && row.state !== 'open' && (
          <span class={`tag state-${row.state}`}>{STATE_NAMES[row.state]}</span>
        )}
        <button class="icon-button" type="button" aria-label="Close" title="Close (Esc)" onClick={close}>
          <Icon name="close" />
        </button>
      </div>
      <h2 id="detail-title" ref={title} tabIndex={-1}>
        {row === undefined ? (
          'Alert'
        ) : (
          <Text>{row.message === '' ? `Signature ${row.gid}:${row.sid}` : row.message}</Text>
        )}
      </h2>
      {answer.error !== undefined && <Problem error={answer.error} retry={answer.reload} />}
      {row !== undefined && answer.data !== undefined && (
        <Body detail={answer.data} row={row} place={place} session={session} markAs={markAs} />
      )}
    </aside>
  );
}

/** Of the same alert, as it was handled last. */
function newer(a: AlertRow | undefined, b: AlertRow | undefined): AlertRow | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return (b.handledAt ?? '') > (a.handledAt ?? '') ? b : a;
}

interface BodyProps {
  detail: AlertDetail;
  row: AlertRow;
  place: Location;
  session: Session;
  markAs: (state: State) => void;
}

function Body({ detail, row, place, session, markAs }: BodyProps): JSX.Element {
  const event = fields(detail.event);
  const record = fields(event['record']);
  return (
    <>
      <div class="actions">
        {row.state !== 'acknowledged' && (
          <button class="primary" type="button" onClick={() => markAs('acknowledged')}>
            <Icon name="check" /> Acknowledge
          </button>
        )}
        {row.state !== 'dismissed' && (
          <button type="button" onClick={() => markAs('dismissed')}>
            <Icon name="dismiss" /> Dismiss
          </button>
        )}
        {row.state !== 'open' && (
          <button type="button" onClick={() => markAs('open')}>
            <Icon name="reopen" /> Open again
          </button>
        )}
        {session.kibanaUrl !== undefined && session.source.kind === 'elasticsearch' && (
          <a
            class="button"
            href={kibanaLink(session.kibanaUrl, session.source.idField, row)}
            target="_blank"
            rel="noopener noreferrer"
          >
            <Icon name="out" /> Kibana
          </a>
        )}
      </div>
      {row.handledBy !== undefined && (
        <p class="faint">
          {row.state === 'open' ? 'Opened again' : STATE_NAMES[row.state]} by <Text>{row.handledBy}</Text>
          {row.handledAt !== undefined && `, ${fullMoment(row.handledAt)}`}
        </p>
      )}
      <div class="flow">
        <EndCard place={place} side="source" end={row.source} aggr={text(event['source_name_aggr'])} />
        <div class="flow-arrow">
          <Icon name="arrow" />
          <Value place={place} field="protocol" value={row.protocol} />
          {row.service !== undefined && (
            <span class="faint">
              <Value place={place} field="service" value={row.service} />
            </span>
          )}
        </div>
        <EndCard place={place} side="destination" end={row.destination} aggr={text(event['dest_name_aggr'])} />
      </div>
      <dl class="facts">
        <Fact name="Time">
          <time dateTime={row.timestamp}>{fullMoment(row.timestamp)}</time>
          <div class="faint mono">{row.timestamp}</div>
        </Fact>
        {row.count > 1 && (
          <Fact name="Stands for">
            {grouped(row.count)} alerts, the last one {fullMoment(text(record['last_timestamp']))}
          </Fact>
        )}
        <Fact name="Resource">
          <Value place={place} field="resource" value={row.resource} />
        </Fact>
        <Fact name="Seen at">
          {seenAt(record['seen_at']).map((seen) => (
            <div key={seen}>
              <Text>{seen}</Text>
            </div>
          ))}
        </Fact>
        <Fact name="Node">
          <Value place={place} field="node" value={row.node} />
        </Fact>
      </dl>
      <Rule detail={detail} row={row} place={place} event={event} record={record} />
      <Payload record={record} />
      <Copies detail={detail} row={row} session={session} />
    </>
  );
}

interface EndCardProps {
  place: Location;
  side: 'source' | 'destination';
  end: AlertRow['source'];
  aggr: string;
}

function EndCard({ place, side, end, aggr }: EndCardProps): JSX.Element {
  const { ip, port, name, namespace } = end;
  return (
    <div class="end-card">
      <h3>{side === 'source' ? 'Source' : 'Destination'}</h3>
      <strong>
        {name === undefined ? (
          'unknown'
        ) : (
          <Value place={place} field={`${side}.pod`} value={namespace === undefined ? name : `${namespace}/${name}`}>
            <Text>{name}</Text>
          </Value>
        )}
      </strong>
      {namespace !== undefined && (
        <span>
          <Value place={place} field={`${side}.namespace`} value={namespace} />
          {aggr !== '' && aggr !== '-' && (
            <span class="faint">
              {' · '}
              <Text>{aggr}</Text>
            </span>
          )}
        </span>
      )}
      <span class="mono">
        <Value place={place} field={`${side}.ip`} value={ip} />
        {port !== undefined && (
          <span class="faint">
            {' port '}
            <Value place={place} field={`${side}.port`} value={String(port)} />
          </span>
        )}
      </span>
    </div>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

interface RuleProps {
  detail: AlertDetail;
  row: AlertRow;
  place: Location;
  event: Fields;
  record: Fields;
}

function Rule({ detail: { rule }, row, place, event, record }: RuleProps): JSX.Element {
  const links = texts(record['links']);
  const references = links.length > 0 ? [] : texts(record['references']);
  const mitigations = texts(event['mitigations']);
  const classtype = text(record['classtype']) || rule?.classtype;
  // The alert's own is the one that fired.
  const ruleText = text(record['rule']) || (rule?.text ?? '');
  return (
    <section>
      <h3>Rule</h3>
      <dl class="facts">
        <Fact name="Signature">
          <span class="mono">
            <Value place={place} field="signature" value={`${row.gid}:${row.sid}`}>
              <Text>{`${row.gid}:${row.sid}:${row.rev}`}</Text>
            </Value>
          </span>
        </Fact>
        {row.classification !== undefined && (
          <Fact name="Class">
            <Value place={place} field="class" value={row.classification} />
            {classtype !== undefined && classtype !== '' && (
              <span class="faint">
                {' '}
                <Text>{classtype}</Text>
              </span>
            )}
          </Fact>
        )}
        <Fact name="Severity">
          <Value place={place} field="severity" value={row.level}>
            {row.severity} of 100
          </Value>
          <span class="faint"> priority {typeof record['priority'] === 'number' ? record['priority'] : 'unknown'}</span>
        </Fact>
        {(row.tactic !== undefined || row.techniques.length > 0) && (
          <Fact name="MITRE">
            {row.tactic !== undefined && (
              <div>
                <Value place={place} field="tactic" value={row.tactic}>
                  <Outside
                    href={/^TA\d{4}$/.test(row.tactic) ? `https://attack.mitre.org/tactics/${row.tactic}/` : undefined}
                  >
                    {`${TACTICS[row.tactic] ?? 'Tactic'} ${row.tactic}`}
                  </Outside>
                </Value>
              </div>
            )}
            {row.techniques.map((technique) => (
              <div key={technique}>
                <Value place={place} field="technique" value={technique}>
                  <Outside
                    href={
                      /^T\d{4}(\.\d{3})?$/.test(technique)
                        ? `https://attack.mitre.org/techniques/${technique.replace('.', '/')}/`
                        : undefined
                    }
                  >
                    {technique}
                  </Outside>
                </Value>
              </div>
            ))}
            {record['mitre_source'] === 'class' && <div class="faint">follows from the rule's class</div>}
          </Fact>
        )}
        {row.cves.length > 0 && (
          <Fact name="CVE">
            {row.cves.map((cve) => (
              <div key={cve}>
                <Value place={place} field="cve" value={cve}>
                  <Outside
                    href={/^CVE-\d{4}-\d{4,}$/.test(cve) ? `https://nvd.nist.gov/vuln/detail/${cve}` : undefined}
                  >
                    {cve}
                  </Outside>
                </Value>
              </div>
            ))}
          </Fact>
        )}
        {links.length + references.length > 0 && (
          <Fact name="References">
            {[...links, ...references].map((link) => (
              <div key={link}>
                <Outside href={safeLink(link)}>{link}</Outside>
              </div>
            ))}
          </Fact>
        )}
        {mitigations.length > 0 && (
          <Fact name="What to do">
            {mitigations.map((mitigation) => (
              <div key={mitigation}>
                <Text>{mitigation}</Text>
              </div>
            ))}
          </Fact>
        )}
      </dl>
      {ruleText === '' ? (
        <p class="faint">The text of the rule is not in the alert, and in no rule set of this server.</p>
      ) : (
        <pre class="rule-text" tabIndex={0} aria-label="Text of the rule">
          {marked(pretty(ruleText), true)}
        </pre>
      )}
      {rule !== undefined && (
        <p class="faint">
          {rule.sets.length === 1 ? 'Set' : 'Sets'} <Text>{rule.sets.join(', ')}</Text>,{' '}
          <Text>{`${rule.file}:${rule.line}`}</Text>
          {String(rule.rev) !== row.rev && ` · revision ${rule.rev} here, ${row.rev} in the alert`}
        </p>
      )}
    </section>
  );
}

/** Opens beside the page; a text without an address that is safe stays a text. */
function Outside({ href, children }: { href: string | undefined; children: string }): JSX.Element {
  if (href === undefined) return <Text>{children}</Text>;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow" referrerpolicy="no-referrer">
      <Text>{children}</Text>
    </a>
  );
}

function safeLink(link: string): string | undefined {
  if (!/^https?:\/\//i.test(link) || !URL.canParse(link)) return undefined;
  const { protocol, username, password, href } = new URL(link);
  return (protocol === 'https:' || protocol === 'http:') && username === '' && password === '' ? href : undefined;
}

/** One option a line. */
function pretty(rule: string): string {
  const open = rule.indexOf('(');
  if (rule.includes('\n') || open === -1) return rule;
  const options = rule.slice(open + 1, rule.lastIndexOf(')'));
  const lines = options.match(/(?:"(?:[^"\\]|\\.)*"|\\.|[^;"\\])+;?/g) ?? [options];
  return `${rule.slice(0, open + 1)}\n${lines
    .map((line) => `  ${line.trim()}`)
    .filter((line) => line.trim() !== '')
    .join('\n')}\n)`;
}

function Payload({ record }: { record: Fields }): JSX.Element {
  const [view, setView] = useState<'text' | 'hex'>('text');
  const [all, setAll] = useState(false);
  const encoded = text(record['payload']);
  const total = Number(record['payload_bytes'] ?? 0);
  if (encoded === '') {
    return (
      <section>
        <h3>Payload</h3>
        <p class="faint">
          {total > 0
            ? `The packet had ${grouped(total)} bytes; none of them is in the alert (evidence.payload).`
            : 'The alert has none.'}
        </p>
      </section>
    );
  }
  const bytes = fromBase64(encoded);
  const shown = all ? bytes : bytes.subarray(0, FIRST_BYTES);
  return (
    <section>
      <div class="section-head">
        <h3>Payload</h3>
        <span class="faint">
          {bytes.length < total
            ? `first ${grouped(bytes.length)} of ${grouped(total)} bytes`
            : `${grouped(bytes.length)} bytes`}
        </span>
        <div class="segments" role="group" aria-label="Payload as">
          {(['text', 'hex'] as const).map((name) => (
            <button key={name} type="button" aria-pressed={view === name} onClick={() => setView(name)}>
              {name === 'text' ? 'Text' : 'Hex'}
            </button>
          ))}
        </div>
      </div>
      <pre class={`payload payload-${view}`} tabIndex={0} aria-label={`Payload as ${view}`}>
        {view === 'hex' ? bytesAsHex(shown) : bytesAsText(shown)}
      </pre>
      {shown.length < bytes.length && (
        <button class="link" type="button" onClick={() => setAll(true)}>
          Show all {grouped(bytes.length)} bytes
        </button>
      )}
    </section>
  );
}

function Copies({ detail, row, session }: { detail: AlertDetail; row: AlertRow; session: Session }): JSX.Element {
  const json = (): string => JSON.stringify(detail.event, null, 2);
  return (
    <section>
      <div class="section-head">
        <h3>Document</h3>
        <div class="copies">
          <CopyButton text={json}>Copy JSON</CopyButton>
          <CopyButton text={() => jq(row.id, session)}>jq</CopyButton>
          <CopyButton text={() => curl(row.id, session)}>curl</CopyButton>
        </div>
      </div>
      <details>
        <summary>Show it</summary>
        <pre class="document" tabIndex={0}>
          {marked(json(), true)}
        </pre>
      </details>
    </section>
  );
}

/** Ids are of letters, digits, `_` and `-`; everything else is quoted for a shell. */
function quoted(text_: string): string {
  return `'${text_.replaceAll("'", String.raw`'\''`)}'`;
}

function jq(id: string, { source }: Session): string {
  const select = quoted(`select(.record.event_id == "${id}")`);
  if (source.kind === 'journal') return `jq ${select} ${quoted(source.directory)}/*.ndjson`;
  return `${search(id, source)} | jq '.hits.hits[]._source'`;
}

function curl(id: string, session: Session): string {
  const bearer = session.access === 'kubernetes' ? ` -H "Authorization: Bearer $TOKEN"` : '';
  return session.access === 'password' && session.source.kind === 'elasticsearch'
    ? search(id, session.source)
    : `curl -s${bearer} ${quoted(`${location.origin}/api/alerts/${id}`)}`;
}

function search(id: string, { url, index }: { url: string; index: string }): string {
  const body = JSON.stringify({ query: { ids: { values: [id] } } });
  return `curl -s -H 'Content-Type: application/json' ${quoted(`${url.replace(/\/$/, '')}/${index}/_search`)} -d ${quoted(body)}`;
}

function kibanaLink(base: string, idField: string, row: AlertRow): string {
  const time = Date.parse(row.timestamp);
  const iso = (millis: number): string => new Date(millis).toISOString();
  const global = `(time:(from:'${iso(time - 3_600_000)}',to:'${iso(time + 3_600_000)}'))`;
  const own = `(dataSource:(dataViewId:dpi-agent-alerts,type:dataView),index:dpi-agent-alerts,query:(language:kuery,query:'${idField}:"${row.id}"'))`;
  return `${base.replace(/\/$/, '')}/app/discover#/?_g=${encodeURIComponent(global)}&_a=${encodeURIComponent(own)}`;
}

type Fields = Readonly<Record<string, unknown>>;

function fields(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? [...new Set(value.filter((item) => typeof item === 'string'))] : [];
}

function seenAt(value: unknown): string[] {
  if (!Array.isArray(value)) return [];
  return value.map((place) => {
    const { namespace, name, interface: on } = fields(place);
    return `${text(namespace)}/${text(name)} (${text(on)})`;
  });
}
