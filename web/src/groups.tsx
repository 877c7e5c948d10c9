/** Alerts counted by signature, or by pod. */
import type { ComponentChildren, JSX } from 'preact';
import type { Group, State } from '../../agent/ui/api.ts';
import { Icon, LevelBadge, Skeleton } from './parts.tsx';
import { grouped, Text } from './text.tsx';
import { ago } from './time.ts';
import { queryOf, type Location } from './url.ts';
import type { Which } from './marking.ts';

interface GroupsProps {
  by: 'signature' | 'pod';
  groups: Group[] | undefined;
  loading: boolean;
  place: Location;
  mark: (which: Which, state: State) => void;
  empty: ComponentChildren;
}

export function Groups({ by, groups, loading, place, mark, empty }: GroupsProps): JSX.Element {
  if (groups === undefined) return <Skeleton />;
  if (groups.length === 0) return loading ? <Skeleton /> : <>{empty}</>;
  const most = Math.max(...groups.map(({ count }) => count));
  return (
    <ol class="groups">
      {groups.map((group) => (
        <li key={group.key} class={`edge-${group.level}`}>
          <button class="group" type="button" onClick={() => place.change((params) => only(params, by, group.key))}>
            <LevelBadge level={group.level} />
            <span class="group-name">
              <Text>{group.label === '' ? group.key : group.label}</Text>
              {by === 'signature' && <span class="mono faint">{group.key}</span>}
            </span>
            <span class="group-count">
              <strong>{grouped(group.count)}</strong>
              <span class="faint">{ago(group.newest)}</span>
            </span>
            <meter min={0} max={most} value={group.count} aria-hidden="true" />
          </button>
          <div class="group-actions">
            {(['acknowledged', 'dismissed'] as const).map((state) => (
              <button
                key={state}
                class="icon-button"
                type="button"
                aria-label={`${state === 'dismissed' ? 'Dismiss' : 'Acknowledge'} all ${grouped(group.count)}: ${group.label || group.key}`}
                title={`${state === 'dismissed' ? 'Dismiss' : 'Acknowledge'} all ${grouped(group.count)}`}
                onClick={() => mark({ query: queryOfGroup(place, by, group.key), until: group.newest }, state)}
              >
                <Icon name={state === 'dismissed' ? 'dismiss' : 'check'} />
              </button>
            ))}
          </div>
        </li>
      ))}
    </ol>
  );
}

function only(params: URLSearchParams, by: 'signature' | 'pod', key: string): void {
  params.delete('group');
  params.delete(by);
  params.append(by, key);
}

function queryOfGroup({ params }: Location, by: 'signature' | 'pod', key: string): string {
  const selected = new URLSearchParams(params);
  only(selected, by, key);
  return queryOf(selected);
}
