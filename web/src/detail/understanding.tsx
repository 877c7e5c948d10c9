/** What the rule says in plain words, what to check, and what to do. */
import type { JSX } from 'preact';
import type { AlertDetail } from '../../../agent/ui/api.ts';
import { Text } from '../text.tsx';

export function Understanding({ detail: { words, advice } }: { detail: AlertDetail }): JSX.Element {
  return (
    <section>
      {words !== undefined && (
        <>
          <h3>The rule in words</h3>
          <p>
            <Text>{words.traffic}</Text>
            {words.direction !== undefined && (
              <>
                , <Text>{words.direction}</Text>
              </>
            )}
            {words.services.length > 0 && (
              <>
                ; for <Text>{words.services.join(', ')}</Text>
              </>
            )}
            {words.looksFor.length > 0 && '. It looks for:'}
          </p>
          <ul class="points">
            {words.looksFor.map((line) => (
              <li key={line}>
                <Text>{line}</Text>
              </li>
            ))}
          </ul>
        </>
      )}
      <Points title="What to check" points={advice.check} />
      <Points title="What to do" points={advice.act} />
    </section>
  );
}

function Points({ title, points }: { title: string; points: readonly string[] }): JSX.Element | null {
  if (points.length === 0) return null;
  return (
    <>
      <h3>{title}</h3>
      <ul class="points">
        {points.map((point) => (
          <li key={point}>{point}</li>
        ))}
      </ul>
    </>
  );
}
