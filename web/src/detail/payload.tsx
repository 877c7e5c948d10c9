/** The bytes that fired, as text or as hex. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { bytesAsHex, bytesAsText, fromBase64, grouped } from '../text.tsx';
import { text, type Fields } from './fields.ts';

const FIRST_BYTES = 2048;

export function Payload({ record }: { record: Fields }): JSX.Element {
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
