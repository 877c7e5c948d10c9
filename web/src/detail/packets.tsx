/** The packets of an alert's flow: a list, what they say in order, and the file for Wireshark. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { AlertPackets, PacketRow } from '../../../agent/ui/api.ts';
import { pathOf } from '../cluster.ts';
import { Problem } from '../parts.tsx';
import { useAnswer } from '../server.ts';
import { bytesAsHex, fromBase64, grouped, markedText, Text } from '../text.tsx';

const VIEWS = { list: 'List', text: 'Text', hex: 'Hex' } as const;
type View = keyof typeof VIEWS;

/** @param summary What the alert says of its packets. */
export function Packets({ id, summary }: { id: string; summary: unknown }): JSX.Element | null {
  const [open, setOpen] = useState(false);
  if (typeof summary !== 'object' || summary === null) return null;
  const { count, complete, cut } = summary as Readonly<Record<string, unknown>>;
  return (
    <section>
      <div class="section-head">
        <h3>Packets</h3>
        <span class="faint">
          {typeof count === 'number' ? grouped(count) : 'unknown'}
          {complete === true ? '' : ', not all of the flow'}
          {typeof cut === 'number' ? `, ${grouped(cut)} cut` : ''}
        </span>
        <a class="button" href={pathOf(`/api/alerts/${encodeURIComponent(id)}/pcap`)} download>
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
      {view !== 'list' && packets.some(({ marks }) => marks !== undefined) && (
        <p class="faint">
          <mark>Marked</mark> are the bytes that the rule looks for.
        </p>
      )}
      {left > 0 && <p class="faint">{grouped(left)} more are in the file.</p>}
    </>
  );
}

function List({ packets }: { packets: readonly PacketRow[] }): JSX.Element {
  return (
    <div class="packet-list" tabIndex={0} role="region" aria-label="Packets">
      <table>
        <thead>
          <tr>
            <th>Time</th>
            <th>Packet</th>
            <th class="amount">Length</th>
            <th class="amount">Payload</th>
          </tr>
        </thead>
        <tbody>
          {packets.map(({ time, fromSource, protocol, flags, length, payloadBytes, fired }, index) => (
            <tr key={index} class={fired === true ? 'fired' : ''}>
              <td>{timeOfDay(time)}</td>
              <td>
                <Direction fromSource={fromSource} /> <Text>{[protocol, flags ?? ''].join(' ').trim()}</Text>
                {fired === true && <Fired />}
              </td>
              <td class="amount">{grouped(length)}</td>
              <td class="amount">{grouped(payloadBytes)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** What both ends say, in the order of the packets. */
function Stream({ packets, view }: { packets: readonly PacketRow[]; view: 'text' | 'hex' }): JSX.Element {
  const said = packets.filter(({ payload, fired }) => payload !== '' || fired === true);
  if (said.length === 0) return <p class="faint">No packet has a payload.</p>;
  return (
    <div class="stream" tabIndex={0} role="region" aria-label={`Payload of the packets as ${view}`}>
      {said.map((packet, index) => (
        <Said key={index} packet={packet} view={view} />
      ))}
    </div>
  );
}

function Said({
  packet: { time, fromSource, payload, payloadBytes, fired, marks = [] },
  view,
}: {
  packet: PacketRow;
  view: 'text' | 'hex';
}): JSX.Element {
  const bytes = fromBase64(payload);
  return (
    <div class={fromSource ? 'said from-source' : 'said from-destination'}>
      <p class="faint">
        <Direction fromSource={fromSource} /> {timeOfDay(time)} · {grouped(payloadBytes)} bytes
        {bytes.length < payloadBytes && `, the first ${grouped(bytes.length)}`}
        {fired === true && <Fired />}
      </p>
      {bytes.length > 0 && (
        <pre class={`payload payload-${view}`}>
          {view === 'hex' ? bytesAsHex(bytes, marks) : markedText(bytes, marks)}
        </pre>
      )}
    </div>
  );
}

function Direction({ fromSource }: { fromSource: boolean }): JSX.Element {
  return (
    <span
      class={fromSource ? 'direction from-source' : 'direction from-destination'}
      title={fromSource ? 'from the source' : 'from the destination'}
    >
      {fromSource ? '→' : '←'}
    </span>
  );
}

function Fired(): JSX.Element {
  return (
    <>
      {' '}
      <span class="fired-tag" title="The packet that fired the rule">
        alert
      </span>
    </>
  );
}

/** To microseconds. */
function timeOfDay(time: string): string {
  return time.slice(11, -1);
}
