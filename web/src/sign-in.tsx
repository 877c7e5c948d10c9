import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { AnswerError, send } from './server.ts';

export function SignIn({ access, signedIn }: { access: 'password' | 'kubernetes'; signedIn: () => void }): JSX.Element {
  const [problem, setProblem] = useState<string>();
  const [busy, setBusy] = useState(false);
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    if (!(event.currentTarget instanceof HTMLFormElement)) return;
    const form = Object.fromEntries(new FormData(event.currentTarget));
    setBusy(true);
    send('POST', '/api/session', form).then(
      () => signedIn(),
      (error: unknown) => {
        setProblem(error instanceof AnswerError ? error.message : String(error));
        setBusy(false);
      },
    );
  };
  return (
    <main class="alone">
      <form class="sign-in" onSubmit={submit}>
        <img src="/icon.svg" alt="" width="44" height="44" />
        <h1>Sign in to dpi-agent</h1>
        {access === 'kubernetes' ? (
          <>
            <label>
              Token of this cluster
              <input name="token" type="password" autocomplete="off" required autofocus spellcheck={false} />
            </label>
            <p class="hint">
              Of a service account: <code>kubectl create token &lt;account&gt; -n &lt;namespace&gt;</code>. You see the
              alerts of the namespaces in which you may list DeepPacketInspections.
            </p>
          </>
        ) : (
          <>
            <label>
              User
              <input name="username" autocomplete="username" required autofocus spellcheck={false} />
            </label>
            <label>
              Password
              <input name="password" type="password" autocomplete="current-password" required />
            </label>
          </>
        )}
        <p class="form-problem" role="alert">
          {problem}
        </p>
        <button class="primary" type="submit" disabled={busy}>
          {busy ? 'Signing in…' : 'Sign in'}
        </button>
      </form>
    </main>
  );
}
