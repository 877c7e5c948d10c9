/** For paper, or a file of it: the alerts that the filters select, or one case. */
import type { ComponentChildren, JSX } from 'preact';
import type { Session } from '../../../agent/ui/api.ts';
import { Icon } from '../parts.tsx';
import { Text } from '../text.tsx';
import { fullMoment } from '../time.ts';
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

interface HeadProps {
  title: string;
  session: Session;
  children?: ComponentChildren;
}

/** What it is, of when and by whom. */
export function Head({ title, session, children }: HeadProps): JSX.Element {
  const { source } = session;
  return (
    <header>
      <h1>
        <Text>{title}</Text>
      </h1>
      <p class="faint">
        Made {fullMoment(Date.now())} by <Text>{session.user}</Text> from{' '}
        <Text>{source.kind === 'journal' ? source.directory : source.index}</Text>, dpi-agent {session.version}
      </p>
      {children}
    </header>
  );
}
