/** The alerts that the filters select: their numbers, what and who is most frequent, and the first of them. */
import type { JSX } from 'preact';
import {
  LEVELS,
  type AlertRow,
  type Flows,
  type Group,
  type Page,
  type Session,
  type Summary,
} from '../../../agent/ui/api.ts';
import { LEVEL_NAMES, Problem, RANGE_NAMES, Skeleton, STATE_NAMES, Table } from '../parts.tsx';
import { useAnswer, type Loaded } from '../server.ts';
import { grouped, Text } from '../text.tsx';
import { fullMoment, moment, zoneName } from '../time.ts';
import { FILTERS, queryOf, type Location } from '../url.ts';
import { End, Head } from './parts.tsx';

const ROWS = 200;
const MOST_FREQUENT = 15;

export function ListReport({ place, session }: { place: Location; session: Session }): JSX.Element {
  const query = queryOf(place.params);
  const sort = place.params.get('sort') === 'severity' ? 'severity' : 'time';
  const summary = useAnswer<Summary>(`/api/summary?${query}`);
  const groups = useAnswer<Group[]>(`/api/groups?by=signature&${query}`);
  const flows = useAnswer<Flows>(`/api/flows?${query}`);
  const page = useAnswer<Page>(`/api/alerts?size=${ROWS}&sort=${sort}&${query}`);
  const failed = [summary, groups, flows, page].find(({ error }) => error !== undefined);
  const all = data(summary, groups, flows, page);
  return (
    <>
      <Head title="Alerts" session={session}>
        <Selection params={place.params} />
      </Head>
      {failed?.error !== undefined && <Problem error={failed.error} retry={failed.reload} />}
      {all === undefined && failed === undefined && <Skeleton />}
      {all !== undefined && (
        <>
          <p>
            <strong>{grouped(all.summary.total)} alerts</strong>:{' '}
            {LEVELS.map((level) => `${grouped(all.summary.counts[level])} ${LEVEL_NAMES[level].toLowerCase()}`).join(
              ', ',
            )}
          </p>
          <Frequent groups={all.groups} flows={all.flows} />
          <Rows rows={all.page.rows} total={all.summary.total} order={sort} />
        </>
      )}
    </>
  );
}

interface All {
  summary: Summary;
  groups: Group[];
  flows: Flows;
  page: Page;
}

/** Undefined while one of them is missing. */
function data(
  summary: Loaded<Summary>,
  groups: Loaded<Group[]>,
  flows: Loaded<Flows>,
  page: Loaded<Page>,
): All | undefined {
  if (summary.data === undefined || groups.data === undefined) return undefined;
  if (flows.data === undefined || page.data === undefined) return undefined;
  return { summary: summary.data, groups: groups.data, flows: flows.data, page: page.data };
}

/** What was filtered by. */
function Selection({ params }: { params: URLSearchParams }): JSX.Element {
  const [from, to] = ['from', 'to'].map((name) => params.get(name));
  const range = RANGE_NAMES[(params.get('range') ?? '24h') as keyof typeof RANGE_NAMES] ?? '';
  const span =
    from || to ? `${from ? `from ${fullMoment(from)}` : ''} ${to ? `to ${fullMoment(to)}` : ''}`.trim() : range;
  const filters = FILTERS.flatMap((name) => params.getAll(name).map((value) => `${name} ${value}`));
  return (
    <p>
      {span}
      {filters.length > 0 && (
        <>
          ; <Text>{filters.join(', ')}</Text>
        </>
      )}
      {params.has('q') && (
        <>
          ; <code>{params.get('q')}</code>
        </>
      )}
      {!params.has('state') && '; without those that were dismissed, unless the query asks for them'}
    </p>
  );
}

function Frequent({ groups, flows: { talkers } }: { groups: Group[]; flows: Flows }): JSX.Element {
  return (
    <>
      <h2 id="frequent">Signatures</h2>
      <Table labelledBy="frequent" columns={['Signature', 'Message', 'Severity', 'Alerts', 'Last']}>
        {groups.slice(0, MOST_FREQUENT).map(({ key, label, level, count, newest }) => (
          <tr key={key}>
            <td class="mono">{key}</td>
            <td>
              <Text>{label}</Text>
            </td>
            <td>{LEVEL_NAMES[level]}</td>
            <td>{grouped(count)}</td>
            <td>{moment(newest)}</td>
          </tr>
        ))}
      </Table>
      <h2 id="talkers">Sources</h2>
      <Table labelledBy="talkers" columns={['Address', 'Pod', ...LEVELS.map((level) => LEVEL_NAMES[level])]}>
        {talkers.map(({ ip, namespace, name, counts }) => (
          <tr key={ip}>
            <td class="mono">
              <Text>{ip}</Text>
            </td>
            <td>
              <Text>{name === undefined ? '' : `${namespace ?? ''}/${name}`}</Text>
            </td>
            {LEVELS.map((level) => (
              <td key={level}>{grouped(counts[level])}</td>
            ))}
          </tr>
        ))}
      </Table>
    </>
  );
}

function Rows({ rows, total, order }: { rows: AlertRow[]; total: number; order: string }): JSX.Element {
  const which = order === 'severity' ? 'most severe' : 'newest';
  return (
    <>
      <h2 id="rows">
        {rows.length < total ? `The ${grouped(rows.length)} ${which} of ${grouped(total)} alerts` : 'Alerts'}
      </h2>
      <Table
        labelledBy="rows"
        columns={[`Time (${zoneName()})`, 'Severity', 'State', 'Message', 'Source', 'Destination']}
      >
        {rows.map((row) => (
          <tr key={row.id}>
            <td>{moment(row.timestamp)}</td>
            <td>{LEVEL_NAMES[row.level]}</td>
            <td>{STATE_NAMES[row.state]}</td>
            <td>
              <Text>{row.message}</Text> <span class="mono faint">{`${row.gid}:${row.sid}`}</span>
            </td>
            <td>
              <End end={row.source} />
            </td>
            <td>
              <End end={row.destination} />
            </td>
          </tr>
        ))}
      </Table>
    </>
  );
}
