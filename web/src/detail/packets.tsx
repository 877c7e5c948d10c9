/** The packets of an alert's flow: a list, what they say in order, and the file for Wireshark. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { AlertPackets, PacketRow } from '../../../agent/ui/api.ts';
import { Problem } from '../parts.tsx';
import { useAnswer } from '../server.ts';
import { bytesAsHex, bytesAsText, fromBase64, grouped, marked } from '../text.tsx';

const VIEWS = { list: 'List', text: 'Text', hex: 'Hex' } as const;
type View = keyof typeof VIEWS;

/** @param summary What the alert says of its packets. */
export function Packets({ id, summary }: { id: string; summary: unknown }): JSX.Element | null {
  const [open, setOpen] = useState(false);
  if (typeof summary !== 'object' || summary === null) return null;
  const { count, complete } = summary as Readonly<Record<string, unknown>>;
  return (
    <section>
      <div class="section-head">
        <h3>Packets</h3>
        <span class="faint">
          {typeof count === 'number' ? grouped(count) : 'unknown'}
          {complete === true ? '' : ', not all of the flow'}
        </span>
        <a class="button" href={`/api/alerts/${encodeURIComponent(id)}/pcap`} download>
          Download pcapng
        </a>
      </div>
      {open ? (
        <Loaded id={id} />
      ) : (
        <button class="link" type="button" onClick={() => setOpen(true)}>
          Show them
        </button>
      )}
    </section>
  );
}

function Loaded({ id }: { id: string }): JSX.Element {
  const answer = useAnswer<AlertPackets>(`/api/alerts/${encodeURIComponent(id)}/packets`);
  const [view, setView] = useState<View>('list');
  if (answer.error !== undefined) return <Problem error={answer.error} retry={answer.reload} />;
  if (answer.data === undefined) return <p class="faint">Loading</p>;
  const { packets, left } = answer.data;
  return (
    <>
      <div class="segments" role="group" aria-label="Packets as">
        {(Object.keys(VIEWS) as View[]).map((name) => (
          <button key={name} type="button" aria-pressed={view === name} onClick={() => setView(name)}>
            {VIEWS[name]}
          </button>
        ))}
      </div>
      {view === 'list' ? <List packets={packets} /> : <Stream packets={packets} view={view} />}
      {left > 0 && <p class="faint">{grouped(left)} more are in the file.</p>}
    </>
  );
}

function List({ packets }: { packets: readonly PacketRow[] }): JSX.Element {
  const lines = packets.map(({ time, fromSource, protocol, flags = '', length, payloadBytes }) =>
    [
      time.slice(11, -1),
      fromSource ? '→' : '←',
      protocol.padEnd(4),
      flags.padEnd(11),
      String(length).padStart(6),
      String(payloadBytes).padStart(6),
    ].join('  '),
  );
  return (
    <pre class="payload" tabIndex={0} aria-label="Packets: time, direction, protocol, flags, length, payload">
      {marked(lines.join('\n'), true)}
    </pre>
  );
}

/** What both ends say, in the order of the packets. */
function Stream({ packets, view }: { packets: readonly PacketRow[]; view: 'text' | 'hex' }): JSX.Element {
  return (
    <pre class={`payload payload-${view}`} tabIndex={0} aria-label={`Payload of the packets as ${view}`}>
      {packets
        .filter(({ payload }) => payload !== '')
        .map(({ time, fromSource, payload }, index) => (
          <div key={index} class={fromSource ? 'from-source' : 'from-destination'}>
            <span class="faint">{`${fromSource ? '→' : '←'} ${time.slice(11, -1)}\n`}</span>
            {view === 'hex' ? bytesAsHex(fromBase64(payload)) : bytesAsText(fromBase64(payload))}
          </div>
        ))}
    </pre>
  );
}
