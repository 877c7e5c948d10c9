/** What both reports have. */
import type { ComponentChildren, JSX } from 'preact';
import type { AlertRow, Session } from '../../../agent/ui/api.ts';
import { Text } from '../text.tsx';
import { fullMoment } from '../time.ts';

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

/** One end of a flow. */
export function End({ end: { ip, port, name, namespace } }: { end: AlertRow['source'] }): JSX.Element {
  return (
    <>
      {name !== undefined && (
        <div>
          <Text>{`${namespace ?? ''}/${name}`}</Text>
        </div>
      )}
      <span class="mono">
        <Text>{port === undefined ? ip : `${ip}:${port}`}</Text>
      </span>
    </>
  );
}
