/** One alert: who, what, why, the bytes, and what to do with it. */
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { AlertDetail, AlertRow, Session, State } from '../../../agent/ui/api.ts';
import { Icon, LevelBadge, Problem, REASON_NAMES, STATE_NAMES } from '../parts.tsx';
import { withMark, type Mark } from '../rows.ts';
import { useAnswer } from '../server.ts';
import { grouped, Text } from '../text.tsx';
import { fullMoment } from '../time.ts';
import type { Doing } from '../marking.ts';
import { TuneButton } from '../tuning/tune.tsx';
import type { Location } from '../url.ts';
import { Value } from '../value.tsx';
import { Document, kibanaLink } from './document.tsx';
import { Fact } from './fact.tsx';
import { fields, text, type Fields } from './fields.ts';
import { Isolate } from './isolate.tsx';
import { Packets } from './packets.tsx';
import { Payload } from './payload.tsx';
import { History } from './history.tsx';
import { Protocol } from './protocol.tsx';
import { RelatedAlerts } from './related.tsx';
import { Rule } from './rule.tsx';
import { Understanding } from './understanding.tsx';

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
  say: (doing: Doing) => Promise<boolean>;
}

export function Detail({ id, row: listed, mark, place, session, close, markAs, say }: Props): JSX.Element {
  const answer = useAnswer<AlertDetail>(`/api/alerts/${encodeURIComponent(id)}`);
  const title = useRef<HTMLHeadingElement>(null);
  useEffect(() => title.current?.focus({ preventScroll: true }), []);
  // What others did with it is in its history.
  useEffect(() => (mark === undefined ? undefined : answer.reload()), [mark]);
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
        <Body
          detail={answer.data}
          row={row}
          place={place}
          session={session}
          markAs={markAs}
          say={(doing) => say(doing).then((done) => (answer.reload(), done))}
        />
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
  say: (doing: Doing) => Promise<boolean>;
}

function Body({ detail, row, place, session, markAs, say }: BodyProps): JSX.Element {
  const event = fields(detail.event);
  const record = fields(event['record']);
  return (
    <>
      <Actions row={row} pod={podPattern(row, event)} session={session} place={place} markAs={markAs} />
      {session.isolates && <Isolate row={row} seenAt={record['seen_at']} />}
      <Handled row={row} />
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
      <Occurrence row={row} place={place} record={record} />
      <Rule detail={detail} row={row} place={place} event={event} record={record} />
      <Understanding detail={detail} />
      <RelatedAlerts row={row} place={place} />
      <Protocol record={record} place={place} />
      <Payload record={record} />
      <Packets id={row.id} summary={record['packets']} />
      <History row={row} history={detail.history} session={session} say={say} />
      <Document detail={detail} row={row} session={session} />
    </>
  );
}

/** What was made of it last, and whose it is. */
function Handled({ row: { state, handledBy, handledAt, reason, assignee } }: { row: AlertRow }): JSX.Element | null {
  if (handledBy === undefined && assignee === undefined) return null;
  return (
    <p class="faint">
      {handledBy !== undefined && (
        <>
          {state === 'open' ? 'Opened again' : STATE_NAMES[state]} by <Text>{handledBy}</Text>
          {reason !== undefined && `: ${REASON_NAMES[reason].toLowerCase()}`}
          {handledAt !== undefined && `, ${fullMoment(handledAt)}`}
        </>
      )}
      {handledBy !== undefined && assignee !== undefined && ' · '}
      {assignee !== undefined && (
        <>
          Assigned to <Text>{assignee}</Text>
        </>
      )}
    </p>
  );
}

interface ActionsProps extends Pick<BodyProps, 'row' | 'session' | 'place' | 'markAs'> {
  /** What tuning begins with. */
  pod: string;
}

function Actions({ row, pod, session, place, markAs }: ActionsProps): JSX.Element {
  return (
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
      {session.tuning !== undefined && <TuneButton row={row} pod={pod} />}
      <button
        type="button"
        title="A report of this case, to print"
        onClick={() => place.change((params) => params.set('page', 'report'))}
      >
        <Icon name="print" /> Report
      </button>
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
  );
}

/** The pod that saw it, by its owner where that is known: pods come and go. */
function podPattern({ seenAt: [seen = ''], source, destination }: AlertRow, event: Fields): string {
  const isAt = ({ namespace, name }: AlertRow['source']): boolean => seen === `${namespace ?? ''}/${name ?? ''}`;
  const aggr = isAt(source) ? event['source_name_aggr'] : isAt(destination) ? event['dest_name_aggr'] : undefined;
  return /^[a-z0-9.-]+\*$/.test(text(aggr)) ? `${seen.split('/')[0] ?? ''}/${text(aggr)}` : seen;
}

interface OccurrenceProps {
  row: AlertRow;
  place: Location;
  record: Fields;
}

/** When, where and how often. */
function Occurrence({ row, place, record }: OccurrenceProps): JSX.Element {
  const last = text(record['last_timestamp']);
  return (
    <dl class="facts">
      <Fact name="Time">
        <time dateTime={row.timestamp}>{fullMoment(row.timestamp)}</time>
        <div class="faint mono">{row.timestamp}</div>
      </Fact>
      {row.count > 1 && (
        <Fact name="Stands for">
          {grouped(row.count)} alerts{last !== '' && `, the last one ${fullMoment(last)}`}
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

function seenAt(value: unknown): string[] {
  if (!Array.isArray(value)) return [];
  return value.map((place) => {
    const { namespace, name, interface: on } = fields(place);
    return `${text(namespace)}/${text(name)} (${text(on)})`;
  });
}
