import type { JSX } from 'preact';
import { useCallback, useEffect, useState } from 'preact/hooks';
import type { Session } from '../../agent/ui/api.ts';
import { Alerts, focusList } from './alerts.tsx';
import { addressIn, CLUSTER, HOME, sessionHere } from './cluster.ts';
import { CoveragePage } from './coverage.tsx';
import { DryRunPage } from './dry-run.tsx';
import { IsolatedPage } from './isolated.tsx';
import { isTyping } from './keys.ts';
import { Help, Icon, Problem, Skeleton } from './parts.tsx';
import { ReportPage } from './report/page.tsx';
import { send, useAnswer, type AnswerError } from './server.ts';
import { SignIn } from './sign-in.tsx';
import { nextTheme, theme } from './theme.ts';
import { TuningPage } from './tuning/page.tsx';
import { queryOf, useLocation, type Location } from './url.ts';

const PAGES = ['alerts', 'coverage', 'tuning', 'isolated', 'dry-run', 'report'] as const;
type PageName = (typeof PAGES)[number];
const TITLES: Record<PageName, string> = {
  alerts: 'Alerts',
  coverage: 'Coverage',
  tuning: 'Tuning',
  isolated: 'Isolated',
  'dry-run': 'Dry run',
  report: 'Report',
};

export function App(): JSX.Element {
  const session = useAnswer<Session>('/api/session');
  const place = useLocation();
  const [help, setHelp] = useState(false);
  const closeHelp = useCallback(() => setHelp(false), []);
  const page = PAGES.find((name) => name === place.params.get('page')) ?? 'alerts';

  useEffect(() => {
    document.title = [TITLES[page], CLUSTER, 'dpi-agent'].filter((part) => part !== undefined).join(' · ');
  }, [page]);

  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      if (event.key === '?' && !isTyping(event)) setHelp((shown) => !shown);
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  }, []);

  const { data, error, reload } = session;
  if (data === undefined || error?.status === 401) return <Outside error={error} reload={reload} />;
  const here = sessionHere(data);
  if (here === undefined) return <UnknownCluster />;
  return (
    <>
      {page === 'alerts' && <SkipToList />}
      <Top page={page} place={place} session={here} signedOut={reload} showHelp={() => setHelp(true)} />
      <Page page={page} place={place} session={here} signedOut={reload} />
      <Help open={help} close={closeHelp} />
    </>
  );
}

function Page({ page, place, session, signedOut }: Omit<TopProps, 'showHelp'>): JSX.Element {
  if (page === 'alerts') return <Alerts place={place} session={session} signedOut={signedOut} />;
  if (page === 'report') return <ReportPage place={place} session={session} />;
  if (CLUSTER !== undefined) return <ElsewherePage page={page} own={session.clusters?.own} />;
  if (page === 'coverage') return <CoveragePage />;
  if (!hasPage(session, page)) return <MissingPage page={page} />;
  if (page === 'tuning') return <TuningPage />;
  return page === 'isolated' ? <IsolatedPage place={place} /> : <DryRunPage place={place} />;
}

/** Of another cluster, its alerts are known and nothing else. */
function ElsewherePage({ page, own }: { page: PageName; own: string | undefined }): JSX.Element {
  return (
    <main class="alone">
      <p>
        Of cluster <b>{CLUSTER}</b>, only alerts are here: {TITLES[page]} is a page of its own server.{' '}
        <a href={HOME}>Alerts of {CLUSTER}</a> ·{' '}
        <a href={`/?page=${page}`}>{`${TITLES[page]} of ${own ?? 'this cluster'}`}</a>
      </p>
    </main>
  );
}

const NEEDS: Record<'tuning' | 'isolated' | 'dry-run', string> = {
  tuning: 'a policy that it may change: alerts.policy, or ui.policyConfigMap in a cluster',
  isolated: 'what isolates pods, respond.url, and people who sign in with their tokens of the cluster',
  'dry-run': 'the API server of a cluster',
};

/** Who typed its address learns what it takes. */
function MissingPage({ page }: { page: keyof typeof NEEDS }): JSX.Element {
  return (
    <main class="alone">
      <p>
        There is no page {TITLES[page]} here: the server of this page needs {NEEDS[page]}. <a href={HOME}>Alerts</a>
      </p>
    </main>
  );
}

/** What index.html shows already. */
function Waiting(): JSX.Element {
  return (
    <>
      <header class="top">
        <Brand />
      </header>
      <main class="waiting" aria-busy="true">
        <Skeleton />
      </main>
    </>
  );
}

/** Who is not, or no longer, signed in; or does not know yet. */
function Outside({ error, reload }: { error: AnswerError | undefined; reload: () => void }): JSX.Element {
  const access = error?.body['access'];
  if (access === 'kubernetes' || access === 'password') return <SignIn access={access} signedIn={reload} />;
  if (error === undefined) return <Waiting />;
  return (
    <main class="alone">
      <Problem error={error} retry={reload} />
    </main>
  );
}

function UnknownCluster(): JSX.Element {
  return (
    <main class="alone">
      <p>
        There is no cluster <b>{CLUSTER}</b> here, or you may not see its alerts: that takes the right to list
        deeppacketinspections in all namespaces. <a href="/">This cluster's alerts</a>
      </p>
    </main>
  );
}

function SkipToList(): JSX.Element {
  return (
    <a
      class="skip"
      href="#alerts"
      onClick={(event) => {
        event.preventDefault();
        focusList();
      }}
    >
      To the alerts
    </a>
  );
}

function Brand(): JSX.Element {
  return (
    <a class="brand" href={HOME} aria-label="dpi-agent alerts, without filters">
      <img src="/icon.svg" alt="" width="26" height="26" />
      <span>dpi-agent</span>
    </a>
  );
}

interface TopProps {
  page: PageName;
  place: Location;
  session: Session;
  signedOut: () => void;
  showHelp: () => void;
}

function Top({ page, place, session, signedOut, showHelp }: TopProps): JSX.Element {
  return (
    <header class="top">
      <Brand />
      <nav aria-label="Pages">
        {PAGES.filter((name) => hasPage(session, name)).map((name) => (
          <PageLink key={name} name={name} current={name === page} place={place} />
        ))}
      </nav>
      <div class="top-end">
        <Clusters place={place} clusters={session.clusters} />
        <ThemeButton />
        <button
          class="icon-button"
          type="button"
          aria-label="Keyboard shortcuts"
          title="Keyboard shortcuts (?)"
          onClick={showHelp}
        >
          <Icon name="help" />
        </button>
        {session.access !== 'none' && (
          <button
            class="quiet user"
            type="button"
            title={`Signed in as ${session.user}`}
            onClick={() => void send('DELETE', '/api/session').finally(signedOut)}
          >
            <span class="user-name">{shortUser(session.user)}</span> Sign out
          </button>
        )}
      </div>
    </header>
  );
}

/** Whether the head leads to it. */
function hasPage({ dryRun, tuning, isolates }: Session, name: PageName): boolean {
  // Agents of other clusters are not asked.
  const coverage = CLUSTER === undefined;
  const has = { report: false, coverage, 'dry-run': dryRun, tuning: tuning !== undefined, isolated: isolates };
  return name === 'alerts' || has[name];
}

/** The switch between clusters; nothing where there is one only. */
function Clusters({ place, clusters }: { place: Location; clusters: Session['clusters'] }): JSX.Element | null {
  if (clusters === undefined) return null;
  return (
    <select
      class="clusters"
      aria-label="Cluster"
      title="Cluster"
      value={CLUSTER ?? ''}
      onChange={({ currentTarget: { value } }) =>
        location.assign(addressIn(value === '' ? undefined : value, queryOf(place.params)))
      }
    >
      <option value="">{clusters.own}</option>
      {clusters.further.map(({ name }) => (
        <option key={name} value={name}>
          {name}
        </option>
      ))}
    </select>
  );
}

function PageLink({ name, current, place }: { name: PageName; current: boolean; place: Location }): JSX.Element {
  return (
    <a
      href={name === 'alerts' ? HOME : `?page=${name}`}
      aria-current={current ? 'page' : undefined}
      onClick={(event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey) return;
        event.preventDefault();
        place.change((params) => {
          for (const key of new Set(params.keys())) params.delete(key);
          if (name !== 'alerts') params.set('page', name);
        });
      }}
    >
      {TITLES[name]}
    </a>
  );
}

function ThemeButton(): JSX.Element {
  const [chosen, setChosen] = useState(theme);
  const names = { system: 'as the system', light: 'light', dark: 'dark' };
  return (
    <button
      class="icon-button"
      type="button"
      aria-label={`Colours: ${names[chosen]}`}
      title={`Colours: ${names[chosen]}`}
      onClick={() => setChosen(nextTheme())}
    >
      <Icon name={chosen === 'system' ? 'half' : chosen === 'light' ? 'sun' : 'moon'} />
    </button>
  );
}

function shortUser(name: string): string {
  return name.replace(/^system:serviceaccount:/, '');
}
