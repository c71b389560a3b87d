// The page of who is not signed in: how to get a link, or a field for a token. A pasted link works as well.

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { ApiProblem } from './api.ts';
import { Mark } from './components/icon.tsx';
import { Loading, ProblemNote } from './components/note.tsx';
import { codeOf, session, signIn } from './session.ts';

export function SignIn(): JSX.Element {
  const { value } = session;
  const [text, setText] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<ApiProblem>();
  if (value.state === 'unknown') {
    return (
      <div class="gate">
        <main>
          <Loading what="the dashboard" />
        </main>
      </div>
    );
  }
  const submit = async (): Promise<void> => {
    setBusy(true);
    try {
      const code = codeOf(text);
      await signIn(code === undefined ? { token: text.trim() } : { code });
    } catch (error) {
      if (!(error instanceof ApiProblem)) throw error;
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  const shown = problem ?? (value.state === 'out' ? value.problem : undefined);
  return (
    <div class="gate">
      <main>
        <div class="brand">
          <Mark size={28} />
          Flotilla
        </div>
        <h1>Sign in</h1>
        {shown !== undefined && <ProblemNote problem={shown} />}
        <div class="field">
          <p>On the tracker's host, this prints a link that signs you in once:</p>
          <pre>flotilla-tracker login</pre>
          <p class="hint">
            From a checkout, <code>npm start</code> prints it as well.
          </p>
        </div>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            void submit();
          }}
        >
          <div class="field">
            <label for="token">Or with a token</label>
            <input id="token" name="token" type="password" autocomplete="current-password" spellcheck={false} required value={text} onInput={(event) => setText(event.currentTarget.value)} />
            <span class="hint">
              Such as the text of <code>operator-token</code> in the tracker's data folder. It is not kept here.
            </span>
          </div>
          <button type="submit" class="button primary" disabled={busy || text.trim() === ''}>
            Sign in
          </button>
        </form>
      </main>
    </div>
  );
}
