/** What an entry would have left out of the last days. */
import type { JSX } from 'preact';
import type { TuneOutcome } from '../../../agent/ui/api.ts';
import { grouped, Text } from '../text.tsx';
import { moment } from '../time.ts';

export interface Tried {
  outcome?: TuneOutcome;
  /** Why it can't be said. */
  problem?: string;
}

export function OutcomeLines({ tried: { outcome, problem } }: { tried: Tried }): JSX.Element {
  return (
    <div class="outcome" role="status">
      {problem !== undefined && <p class="form-problem">{problem}</p>}
      {problem === undefined && outcome === undefined && <p class="faint">Looking at the last 7 days…</p>}
      {outcome !== undefined && outcome.events === 0 && <p>The last 7 days have no such alert.</p>}
      {outcome !== undefined && outcome.events > 0 && (
        <>
          <p>
            Would have left out <strong>{grouped(outcome.leftOut)}</strong> of {grouped(outcome.events)} alerts{' '}
            {outcome.more && outcome.since !== undefined
              ? `since ${moment(outcome.since, false)}; older ones of the last 7 days were not looked at`
              : 'of the last 7 days'}
            {outcome.criticalLeftOut > 0 && (
              <>
                , <strong class="warn">{grouped(outcome.criticalLeftOut)} of them critical</strong>
              </>
            )}
            .
          </p>
          <meter min={0} max={outcome.events} value={outcome.leftOut} aria-hidden="true" />
          {outcome.kinds.length > 1 && (
            <ul>
              {outcome.kinds.map(({ signature, message, leftOut }) => (
                <li key={signature}>
                  {grouped(leftOut)} <Text>{message}</Text> <span class="mono faint">{signature}</span>
                </li>
              ))}
            </ul>
          )}
        </>
      )}
    </div>
  );
}
