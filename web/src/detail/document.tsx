/** The event as it is stored, and commands that find it again. */
import type { JSX } from 'preact';
import type { AlertDetail, AlertRow, Session } from '../../../agent/ui/api.ts';
import { CopyButton } from '../parts.tsx';
import { marked } from '../text.tsx';

export function Document({
  detail,
  row,
  session,
}: {
  detail: AlertDetail;
  row: AlertRow;
  session: Session;
}): JSX.Element {
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

export function kibanaLink(base: string, idField: string, row: AlertRow): string {
  const time = Date.parse(row.timestamp);
  const iso = (millis: number): string => new Date(millis).toISOString();
  const global = `(time:(from:'${iso(time - 3_600_000)}',to:'${iso(time + 3_600_000)}'))`;
  const own = `(dataSource:(dataViewId:dpi-agent-alerts,type:dataView),index:dpi-agent-alerts,query:(language:kuery,query:'${idField}:"${row.id}"'))`;
  return `${base.replace(/\/$/, '')}/app/discover#/?_g=${encodeURIComponent(global)}&_a=${encodeURIComponent(own)}`;
}
