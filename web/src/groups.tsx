/** Alerts counted by signature, or by pod. */
import type { ComponentChildren, JSX } from 'preact';
import type { Group } from '../../agent/ui/api.ts';
import { LevelBadge, Skeleton } from './parts.tsx';
import { ago, grouped, Text } from './text.tsx';
import type { Location } from './url.ts';

interface GroupsProps {
  by: 'signature' | 'pod';
  groups: Group[] | undefined;
  loading: boolean;
  place: Location;
  empty: ComponentChildren;
}

export function Groups({ by, groups, loading, place, empty }: GroupsProps): JSX.Element {
  if (groups === undefined) return <Skeleton />;
  if (groups.length === 0) return loading ? <Skeleton /> : <>{empty}</>;
  const most = Math.max(...groups.map(({ count }) => count));
  return (
    <ol class="groups">
      {groups.map((group) => (
        <li key={group.key} class={`edge-${group.level}`}>
          <button
            type="button"
            onClick={() =>
              place.change((params) => {
                params.delete('group');
                params.delete(by);
                params.append(by, group.key);
              })
            }
          >
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
        </li>
      ))}
    </ol>
  );
}
