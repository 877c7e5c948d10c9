/** One case: the alert, its flow, the rule, what to check and do, what is around it, and what was done. */
import type { JSX } from 'preact';
import { type AlertDetail, type AlertRow, type Related, type Session } from '../../../agent/ui/api.ts';
import { fields, text } from '../detail/fields.ts';
import { Payload } from '../detail/payload.tsx';
import { Acts } from '../detail/history.tsx';
import { Understanding } from '../detail/understanding.tsx';
import { LEVEL_NAMES, Problem, Skeleton, STATE_NAMES } from '../parts.tsx';
import { useAnswer } from '../server.ts';
import { grouped, marked, Text } from '../text.tsx';
import { fullMoment } from '../time.ts';
import { End, Head } from './parts.tsx';

export function CaseReport({ id, session }: { id: string; session: Session }): JSX.Element {
  const path = `/api/alerts/${encodeURIComponent(id)}`;
  const { data, error, reload } = useAnswer<AlertDetail>(path);
  const related = useAnswer<Related>(`${path}/related`);
  if (error !== undefined) return <Problem error={error} retry={reload} />;
  if (data === undefined) return <Skeleton />;
  const record = fields(fields(data.event)['record']);
  return (
    <>
      <Head title={data.row.message || `Signature ${data.row.gid}:${data.row.sid}`} session={session} />
      <Facts row={data.row} />
      {record['flow'] !== undefined && <Flow flow={record['flow']} outcome={data.row.outcome} />}
      <Understanding detail={data} />
      <h2>Around it</h2>
      {related.data !== undefined && <Around related={related.data} />}
      <h2>Rule</h2>
      <pre class="rule-text">{marked(text(record['rule']) || (data.rule?.text ?? 'not known here'), true)}</pre>
      <Payload record={record} />
      <h2>What was done</h2>
      {data.history.length === 0 ? <p>Nothing yet.</p> : <Acts history={data.history} />}
      <p class="faint mono">{id}</p>
    </>
  );
}

function Facts({ row }: { row: AlertRow }): JSX.Element {
  const facts: [string, JSX.Element | string][] = [
    ['Time', `${fullMoment(row.timestamp)} (${row.timestamp})`],
    ['Severity', `${LEVEL_NAMES[row.level]}, ${row.severity} of 100`],
    ['State', `${STATE_NAMES[row.state]}${row.assignee === undefined ? '' : `, assigned to ${row.assignee}`}`],
    ['Signature', `${row.gid}:${row.sid}:${row.rev}`],
    ['Source', <End key="source" end={row.source} />],
    ['Destination', <End key="destination" end={row.destination} />],
    ['Protocol', [row.protocol, row.service ?? ''].join(' ')],
    ['Class', row.classification ?? ''],
    ['MITRE', [row.tactic ?? '', ...row.techniques].join(' ')],
    ['CVE', row.cves.join(' ')],
    ['Seen at', row.seenAt.join(', ')],
    ['Resource', row.resource],
    ['Node', row.node],
    ['Stands for', row.count > 1 ? `${grouped(row.count)} alerts` : ''],
  ];
  return (
    <dl class="facts">
      {facts
        .filter(([, value]) => value !== '')
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{typeof value === 'string' ? <Text>{value}</Text> : value}</dd>
          </div>
        ))}
    </dl>
  );
}

/** What went over the wire, where the engine said so. */
function Flow({ flow, outcome }: { flow: unknown; outcome: string | undefined }): JSX.Element {
  const said = Object.entries(fields(flow)).filter(([, value]) => ['string', 'number'].includes(typeof value));
  return (
    <p>
      Flow: <Text>{said.map(([name, value]) => `${name.replaceAll('_', ' ')} ${String(value)}`).join(', ')}</Text>
      {outcome !== undefined && (
        <>
          ; outcome <Text>{outcome}</Text>
        </>
      )}
    </p>
  );
}

const NAMES = {
  flow: 'of its flow',
  source: 'of its source',
  pod: 'of its pod',
  technique: 'of its technique',
} as const;

function Around({ related: { of, signature, all } }: { related: Related }): JSX.Element {
  return (
    <>
      <p>
        {grouped(signature.count)} alerts of its signature
        {signature.first !== undefined && ` since ${fullMoment(signature.first)}`}, of {grouped(all.count)} in all. In
        the day before it and the day after it: {of.map(({ by, count }) => `${grouped(count)} ${NAMES[by]}`).join(', ')}
        .
      </p>
      <ul class="points">
        {(of.find(({ by }) => by === 'pod')?.rows ?? []).slice(0, 20).map((row) => (
          <li key={row.id}>
            {fullMoment(row.timestamp)} {LEVEL_NAMES[row.level]} <Text>{row.message}</Text>
          </li>
        ))}
      </ul>
    </>
  );
}
