// Named tokens for scripts and people: which there are, a new one (shown once), and their end.

import type { CreatedToken, Role, TokenInfo } from '@flotilla/shared/operator-api';
import { OPERATOR_ROUTES, ROLES } from '@flotilla/shared/routes';
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { call, post } from '../api.ts';
import { Action } from '../components/action.tsx';
import { Field } from '../components/field.tsx';
import { Empty, Loading, Note, ProblemNote } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { Panel } from '../components/panel.tsx';
import { Table } from '../components/table.tsx';
import { moment } from '../format.ts';
import { useOnce } from '../once.ts';
import { may, session } from '../session.ts';

const MAY: Readonly<Record<Role, string>> = { read: 'look at everything', operate: 'and change rollouts, brakes, members', admin: 'and make tokens, replace the join token' };

export function TokensPage(): JSX.Element {
  const { value, problem, reload } = useOnce<TokenInfo[]>(may('admin') ? OPERATOR_ROUTES.tokens : undefined, ['audit']);
  const own = session.value.state === 'in' ? session.value.me.name : '';
  const nowMs = Date.now();
  if (!may('admin')) {
    return (
      <Page title="Tokens">
        <section class="panel">
          <Empty title="Tokens are an admin's">You are signed in as {own}, whose role does not allow to see or make them.</Empty>
        </section>
      </Page>
    );
  }
  return (
    <Page title="Tokens" lead="For scripts, and for people who sign in without a link. Each change they make is in the audit log by their name.">
      {problem !== undefined && <ProblemNote problem={problem} retry={reload} />}
      <section class="panel" aria-label="Tokens">
        {value === undefined ? (
          <Loading what="the tokens" />
        ) : (
          <Table
            caption="Tokens"
            rows={value}
            keyOf={({ name }) => name}
            columns={[
              { head: 'Name', rowHead: true, cell: ({ name }) => name, sort: ({ name }) => name },
              { head: 'Role', cell: ({ role }) => role, sort: ({ role }) => ROLES.indexOf(role) },
              { head: 'May', cell: ({ role }) => <span class="quiet">{MAY[role]}</span> },
              { head: 'Made (UTC)', number: true, cell: ({ createdAtMs }) => moment(createdAtMs, nowMs), sort: ({ createdAtMs }) => createdAtMs },
              { head: 'By', cell: ({ createdBy }) => createdBy },
              {
                head: 'Do',
                cell: ({ name }) => (
                  <Action
                    label="Revoke"
                    role="admin"
                    look="danger"
                    confirm={{ title: `Revoke the token ${name}?`, text: <p>It ends at once, with every session that it opened{name === own ? ', yours too' : ''}.</p> }}
                    run={async () => {
                      await call('DELETE', OPERATOR_ROUTES.token(name));
                      reload();
                    }}
                  />
                ),
              },
            ]}
          />
        )}
      </section>
      <NewToken made={reload} />
    </Page>
  );
}

function NewToken({ made }: { readonly made: () => void }): JSX.Element {
  const [name, setName] = useState('');
  const [role, setRole] = useState<Role>('read');
  const [created, setCreated] = useState<CreatedToken>();
  return (
    <Panel title="Make a token">
      {created !== undefined && (
        <Note tone="ok" title={`Token ${created.name}: shown this once`} role="status">
          <code class="break secret" data-testid="created-token">
            {created.token}
          </code>
          <span class="quiet small">Send it as “Authorization: Bearer …”, or paste it when signing in.</span>
        </Note>
      )}
      <div class="form">
        <Field label="Name" hint="What the audit log calls who uses it.">
          {(ids) => <input {...ids} value={name} maxLength={64} onInput={(event) => setName(event.currentTarget.value)} autocomplete="off" spellcheck={false} />}
        </Field>
        <Field label="Role" hint={MAY[role]}>
          {(ids) => (
            <select {...ids} value={role} onChange={(event) => setRole(event.currentTarget.value as Role)}>
              {ROLES.map((each) => (
                <option key={each} value={each}>
                  {each}
                </option>
              ))}
            </select>
          )}
        </Field>
        <div class="full form-end">
          <Action
            label="Make it"
            role="admin"
            look="primary"
            run={async () => {
              setCreated(await post<CreatedToken>(OPERATOR_ROUTES.tokens, { name: name.trim(), role }));
              setName('');
              made();
            }}
          />
        </div>
      </div>
    </Panel>
  );
}
