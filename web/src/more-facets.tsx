/** Values of further fields: asked for when somebody opens them. One that is chosen is in the search. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { FacetValue, ValueField } from '../../agent/ui/api.ts';
import { Icon } from './parts.tsx';
import { useAnswer } from './server.ts';
import { short, Text } from './text.tsx';
import { narrow, queryOf, type Location } from './url.ts';

const TITLES: readonly [ValueField, string][] = [
  ['source.ip', 'Source address'],
  ['source.pod', 'Source pod'],
  ['destination.ip', 'Destination address'],
  ['destination.pod', 'Destination pod'],
  ['destination.port', 'Port'],
  ['service', 'Service'],
  ['protocol', 'Protocol'],
  ['class', 'Class'],
  ['cve', 'CVE'],
  ['technique', 'MITRE technique'],
  ['node', 'Node'],
  ['assignee', 'Assigned to'],
];

export function MoreFacets({ place }: { place: Location }): JSX.Element {
  return (
    <div class="more-facets">
      {TITLES.map(([field, title]) => (
        <MoreFacet key={field} field={field} title={title} place={place} />
      ))}
    </div>
  );
}

interface FacetProps {
  field: ValueField;
  title: string;
  place: Location;
}

function MoreFacet({ field, title, place }: FacetProps): JSX.Element {
  const [open, setOpen] = useState(false);
  const answer = useAnswer<FacetValue[]>(open ? `/api/values?of=${field}&${queryOf(place.params)}` : undefined);
  const { data, error } = answer;
  const most = Math.max(1, ...(data ?? []).map(({ count }) => count));
  return (
    <details class="facet" onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary>{title}</summary>
      {error !== undefined && <p class="faint">{error.message}</p>}
      {data?.length === 0 && <p class="faint">None of these alerts has one.</p>}
      {data?.map(({ value, count }) => (
        <div key={value} class="choice-row">
          <button
            class="choice"
            type="button"
            title="Only this"
            onClick={() => place.change((params) => narrow(params, field, value, false))}
          >
            <span class="choice-name">
              <Text>{value}</Text>
            </span>
            <span class="choice-count">{short(count)}</span>
            <meter class="choice-bar" min={0} max={most} value={count} aria-hidden="true" />
          </button>
          <button
            class="value-button"
            type="button"
            aria-label={`Not ${value}`}
            title="Not this"
            onClick={() => place.change((params) => narrow(params, field, value, true))}
          >
            <Icon name="dismiss" />
          </button>
        </div>
      ))}
    </details>
  );
}
