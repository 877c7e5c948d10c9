/** For paper, or a file of it: the alerts that the filters select, or one case. */
import type { JSX } from 'preact';
import type { Session } from '../../../agent/ui/api.ts';
import { Icon } from '../parts.tsx';
import type { Location } from '../url.ts';
import { CaseReport } from './case.tsx';
import { ListReport } from './list.tsx';

export function ReportPage({ place, session }: { place: Location; session: Session }): JSX.Element {
  const alert = place.params.get('alert');
  return (
    <main class="page report">
      <div class="no-print actions">
        <button class="primary" type="button" onClick={() => print()}>
          <Icon name="print" /> Print
        </button>
        <button
          type="button"
          onClick={() =>
            place.change((params) => {
              params.delete('page');
            })
          }
        >
          Back to the alerts
        </button>
      </div>
      {alert === null ? <ListReport place={place} session={session} /> : <CaseReport id={alert} session={session} />}
    </main>
  );
}
