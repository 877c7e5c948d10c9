/** What was done with an alert, by whom and when; and what else there is to say of it. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { REASONS, type Act, type AlertRow, type Session } from '../../../agent/ui/api.ts';
import type { Doing } from '../marking.ts';
import { REASON_NAMES, STATE_NAMES } from '../parts.tsx';
import { Text } from '../text.tsx';
import { fullMoment } from '../time.ts';

interface HistoryProps {
  row: AlertRow;
  history: readonly Act[];
  session: Session;
  say: (doing: Doing) => Promise<boolean>;
}

export function History({ row, history, session, say }: HistoryProps): JSX.Element {
  return (
    <section>
      <h3>History</h3>
      {history.length > 0 && <Acts history={history} />}
      <Say row={row} user={session.user} say={say} />
    </section>
  );
}

/** The oldest first. */
export function Acts({ history }: { history: readonly Act[] }): JSX.Element {
  return (
    <ol class="history">
      {history.map((act, index) => (
        <li key={index}>
          <strong>
            <Text>{act.by}</Text>
          </strong>{' '}
          {whatOf(act)}
          {act.at !== '' && <span class="faint"> {fullMoment(act.at)}</span>}
          {act.comment !== undefined && (
            <blockquote>
              <Text>{act.comment}</Text>
            </blockquote>
          )}
        </li>
      ))}
    </ol>
  );
}

function whatOf({ state, reason, comment, assignee, tuned }: Act): JSX.Element | string {
  if (tuned !== undefined) return `tuned its like: ${tuned}`;
  if (state === 'open') return 'opened it again';
  if (state !== undefined)
    return `${STATE_NAMES[state].toLowerCase()} it${reason === undefined ? '' : `: ${REASON_NAMES[reason].toLowerCase()}`}`;
  if (assignee === '') return 'took it from who had it';
  if (assignee !== undefined) {
    return (
      <>
        assigned it to <Text>{assignee}</Text>
      </>
    );
  }
  return comment === undefined ? 'looked at it' : 'wrote';
}

interface SayProps {
  row: AlertRow;
  user: string;
  say: (doing: Doing) => Promise<boolean>;
}

function Say({ row, user, say }: SayProps): JSX.Element {
  const [comment, setComment] = useState('');
  const [assignee, setAssignee] = useState(row.assignee ?? user);
  const [reason, setReason] = useState('');
  const why = REASONS.find((name) => name === reason);
  const said = comment.trim();
  const store = (doing: Doing): void =>
    void say(said === '' ? doing : { ...doing, comment: said }).then((done) => done && setComment(''));
  return (
    <form class="say" onSubmit={(event) => event.preventDefault()}>
      <textarea
        aria-label="Comment"
        placeholder="Comment"
        rows={2}
        maxLength={2000}
        value={comment}
        onInput={(event) => setComment(event.currentTarget.value)}
      />
      <div class="say-row">
        <button class="small" type="button" disabled={said === ''} onClick={() => store({})}>
          Comment
        </button>
        <select aria-label="Reason" value={reason} onChange={(event) => setReason(event.currentTarget.value)}>
          <option value="">Reason…</option>
          {REASONS.map((name) => (
            <option key={name} value={name}>
              {REASON_NAMES[name]}
            </option>
          ))}
        </select>
        <button
          class="small"
          type="button"
          disabled={why === undefined}
          onClick={() => why !== undefined && store({ state: 'dismissed', reason: why })}
        >
          Dismiss with reason
        </button>
      </div>
      <div class="say-row">
        <input
          aria-label="Assign to"
          value={assignee}
          maxLength={256}
          spellcheck={false}
          onInput={(event) => setAssignee(event.currentTarget.value)}
        />
        <button
          class="small"
          type="button"
          disabled={assignee.trim() === (row.assignee ?? '')}
          onClick={() => store({ assignee: assignee.trim() })}
        >
          {assignee.trim() === '' ? 'Assign to nobody' : 'Assign'}
        </button>
      </div>
    </form>
  );
}
