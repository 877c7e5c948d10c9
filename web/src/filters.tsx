import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { FacetName, FacetValue, Level, State, Summary } from '../../agent/ui/api.ts';
import { TACTICS } from '../../agent/events/tactics.ts';
import { Icon, LEVEL_NAMES, STATE_NAMES } from './parts.tsx';
import { MoreFacets } from './more-facets.tsx';
import { short, Text } from './text.tsx';
import { FILTERS, narrow, toggle, type Location } from './url.ts';

const TITLES: Record<FacetName, string> = {
  level: 'Severity',
  state: 'State',
  namespace: 'Namespace',
  pod: 'Pod',
  signature: 'Signature',
  tactic: 'MITRE tactic',
};
/** In the query language. */
const FIELD_OF: Record<FacetName, string> = {
  level: 'severity',
  state: 'state',
  namespace: 'namespace',
  pod: 'pod',
  signature: 'signature',
  tactic: 'tactic',
};
const ORDER: FacetName[] = ['level', 'state', 'namespace', 'pod', 'signature', 'tactic'];
const FIRST = 6;

export function Filters({ place, facets }: { place: Location; facets: Summary['facets'] | undefined }): JSX.Element {
  return (
    <>
      {ORDER.map((name) => (
        <Facet key={name} name={name} place={place} values={facets?.[name] ?? []} />
      ))}
      <MoreFacets place={place} />
    </>
  );
}

function Facet({
  name,
  place,
  values,
}: {
  name: FacetName;
  place: Location;
  values: FacetValue[];
}): JSX.Element | null {
  const [all, setAll] = useState(false);
  const chosen = place.params.getAll(name);
  if (values.length === 0 && chosen.length === 0) return null;
  const most = Math.max(1, ...values.map(({ count }) => count));
  // What is chosen stays in sight.
  const shown = all ? values : values.filter(({ value }, index) => index < FIRST || chosen.includes(value));
  return (
    <fieldset class={`facet facet-${name}`}>
      <legend>
        {TITLES[name]}
        {chosen.length > 0 && (
          <button
            class="link"
            type="button"
            onClick={() => place.change((params) => params.delete(name))}
            aria-label={`Clear ${TITLES[name]}`}
          >
            clear
          </button>
        )}
      </legend>
      {shown.map((facet) => (
        <Choice key={facet.value} name={name} facet={facet} most={most} place={place} chosen={chosen} />
      ))}
      {values.length > FIRST && (
        <button class="link" type="button" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? 'fewer' : `${values.length - FIRST} more`}
        </button>
      )}
    </fieldset>
  );
}

interface ChoiceProps {
  name: FacetName;
  facet: FacetValue;
  /** The count of the most frequent value. */
  most: number;
  place: Location;
  chosen: readonly string[];
}

function Choice({ name, facet, most, place, chosen }: ChoiceProps): JSX.Element {
  const { value, label, count } = facet;
  const shown = labelOf(name, facet);
  return (
    <div class="choice-row">
      <label class={count === 0 ? 'choice none' : 'choice'}>
        <input
          type="checkbox"
          checked={chosen.includes(value)}
          onChange={() => place.change((params) => toggle(params, name, value))}
        />
        <span class="choice-name" title={label === undefined ? value : `${value} ${label}`}>
          {name === 'level' && <i class={`dot fill-${value}`} />}
          <Text>{shown}</Text>
        </span>
        <span class="choice-count">{short(count)}</span>
        <meter class="choice-bar" min={0} max={most} value={count} aria-hidden="true" />
      </label>
      <button
        class="value-button"
        type="button"
        aria-label={`Not ${shown}`}
        title="Not this"
        onClick={() => place.change((params) => narrow(params, FIELD_OF[name], value, true))}
      >
        <Icon name="dismiss" />
      </button>
    </div>
  );
}

function labelOf(name: FacetName, { value, label }: Pick<FacetValue, 'value' | 'label'>): string {
  switch (name) {
    case 'level':
      return LEVEL_NAMES[value as Level] ?? value;
    case 'state':
      return STATE_NAMES[value as State] ?? value;
    case 'tactic':
      return value === 'none' ? 'None named' : (TACTICS[value] ?? value);
    case 'signature':
      return label === undefined || label === '' ? value : label;
    default:
      return value;
  }
}

/** The filters that are set, each to be taken away. */
export function Chips({
  place,
  facets,
}: {
  place: Location;
  facets: Summary['facets'] | undefined;
}): JSX.Element | null {
  const set = FILTERS.flatMap((name) => place.params.getAll(name).map((value) => ({ name, value })));
  if (set.length === 0) return null;
  return (
    <ul class="chips" aria-label="Filters that are set">
      {set.map(({ name, value }) => {
        const label = labelOf(name, facets?.[name].find((facet) => facet.value === value) ?? { value });
        return (
          <li key={`${name}:${value}`}>
            <button
              type="button"
              onClick={() => place.change((params) => toggle(params, name, value))}
              aria-label={`Remove filter ${TITLES[name]}: ${label}`}
            >
              <span class="faint">{TITLES[name]}</span> <Text>{label}</Text> <span aria-hidden="true">×</span>
            </button>
          </li>
        );
      })}
    </ul>
  );
}
