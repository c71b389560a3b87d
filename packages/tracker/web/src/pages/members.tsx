// Who belongs to the fleet, what is held against whom, and the join token by which hosts enrol.

import type { HostState } from '@flotilla/shared/live-api';
import { HOST_STATES } from '@flotilla/shared/live-lists';
import type { JoinTokenInfo, Member, MemberList } from '@flotilla/shared/operator-api';
import { OPERATOR_ROUTES } from '@flotilla/shared/routes';
import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { post } from '../api.ts';
import { Action } from '../components/action.tsx';
import { HostBadge } from '../components/badge.tsx';
import { MemberActions } from '../components/member-actions.tsx';
import { Empty, Loading, Note, ProblemNote } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { Panel } from '../components/panel.tsx';
import { PeerLink } from '../components/peer-link.tsx';
import { Table } from '../components/table.tsx';
import { ago, count, moment, plural, shortPeer } from '../format.ts';
import { useOnce } from '../once.ts';
import { here, setQuery } from '../router.ts';
import { may } from '../session.ts';
import { useHosts, type HostsState } from '../topics.ts';

/** One for thousands of comparisons each second. */
const BY_NAME = new Intl.Collator('en', { numeric: true });
/** Those that somebody has to look at come first. */
const ORDER: Readonly<Record<HostState, number>> = { quarantined: 0, expelled: 1, stale: 2, down: 3, up: 4 };

export function MembersPage(): JSX.Element {
  const { value, problem, reload } = useOnce<MemberList>(OPERATOR_ROUTES.members, ['members']);
  const wanted = (here.value.query.get('q') ?? '').toLowerCase();
  const { value: hosts, atMs } = useHosts();
  const nowMs = atMs === 0 ? Date.now() : atMs;
  const fits = ({ name, peerId, zone, state, version }: Member): boolean => `${name} ${peerId} ${zone} ${state} ${version}`.toLowerCase().includes(wanted);
  const members = useMemo(() => (value === undefined ? undefined : asTheyAre(value.members, hosts)), [value, hosts]);
  const rows = members?.filter(fits).sort((a, b) => ORDER[a.state] - ORDER[b.state] || BY_NAME.compare(a.name, b.name)) ?? [];
  const banned = members?.filter(({ state }) => state === 'quarantined' || state === 'expelled').length ?? 0;
  return (
    <Page title="Members" lead={value === undefined ? undefined : `${plural(value.members.length, 'host')} enrolled${banned > 0 ? `, ${count(banned)} of them shut out` : ''}`}>
      {problem !== undefined && <ProblemNote problem={problem} retry={reload} />}
      <section class="panel" aria-label="Members">
        <div class="table-tools">
          <input type="search" aria-label="Narrow by name, zone, state, version or peer id" placeholder="Narrow: name, zone, state, version, peer id" value={wanted} onInput={(event) => setQuery({ q: event.currentTarget.value })} />
        </div>
        {value === undefined ? (
          <Loading what="the members" />
        ) : rows.length === 0 ? (
          <Empty title={wanted === '' ? 'No host has enrolled yet' : 'No member fits'} />
        ) : (
          <Table
            caption="Members"
            rows={rows}
            keyOf={({ peerId }) => peerId}
            columns={[
              { head: 'Host', rowHead: true, cell: ({ peerId, name }) => <PeerLink peerId={peerId} name={name} />, sort: ({ name }) => name },
              { head: 'State', cell: ({ state }) => <HostBadge state={state} />, sort: ({ state }) => ORDER[state] },
              { head: 'Held against it', cell: (member) => <HeldAgainst member={member} /> },
              { head: 'Zone', cell: ({ zone }) => <span class="nowrap">{zone === '' ? '–' : zone}</span>, sort: ({ zone }) => zone },
              { head: 'Version', cell: ({ version }) => <span class="nowrap">{version}</span>, sort: ({ version }) => version },
              { head: 'Seen', number: true, cell: ({ seenAtMs }) => ago(seenAtMs, nowMs), sort: ({ seenAtMs }) => seenAtMs },
              { head: 'Enrolled (UTC)', number: true, cell: ({ enrolledAtMs }) => moment(enrolledAtMs, nowMs), sort: ({ enrolledAtMs }) => enrolledAtMs },
              {
                head: 'Do',
                cell: ({ peerId, name, state }) => (
                  <div class="row-actions">
                    <MemberActions peerId={peerId} name={name === '' ? `…${shortPeer(peerId)}` : name} state={state} done={reload} />
                  </div>
                ),
              },
            ]}
          />
        )}
      </section>
      <JoinToken />
    </Page>
  );
}

/** What is live is newer than the list, which is asked for anew when members or what is held against them have changed. */
function asTheyAre(members: readonly Member[], hosts: HostsState | undefined): readonly Member[] {
  if (hosts === undefined) return members;
  const infos = new Map([...hosts.infos.values()].map((info) => [info.peerId, info]));
  return members.map((member) => {
    const info = infos.get(member.peerId);
    const figures = hosts.figures.get(info?.n ?? -1);
    return info === undefined || figures === undefined ? member : { ...member, name: info.name, zone: info.zone, version: info.version, state: HOST_STATES[figures[1]]!, seenAtMs: Math.max(member.seenAtMs, figures[13]) };
  });
}

function HeldAgainst({ member: { peerId, reason, trusted, accusers, lies } }: { readonly member: Member }): JSX.Element {
  const said = [
    reason,
    lies > 0 && `lied about ${plural(lies, 'blob')}`,
    accusers.length > 0 && `accused by ${plural(accusers.length, 'member')}`,
    !trusted && 'its word does not count',
  ].filter((text) => typeof text === 'string');
  if (said.length === 0) return <span class="quiet">–</span>;
  return (
    <span class="break wrap">
      {said.join('; ')} · <a href={`/members/${peerId}/received`}>who got bytes from it</a>
    </span>
  );
}

function JoinToken(): JSX.Element {
  const { value, problem, reload } = useOnce<JoinTokenInfo>(may('admin') ? OPERATOR_ROUTES.joinToken : undefined, ['audit']);
  const [rotated, setRotated] = useState(false);
  return (
    <Panel
      title="Join token"
      aside={
        <Action
          label="Make a new one"
          role="admin"
          look="danger"
          confirm={{ title: `Replace the join token${value === undefined ? '' : ` ${value.id}`}?`, text: <p>Hosts that enrol from now on need the new one. Members stay members.</p> }}
          run={async () => {
            await post(OPERATOR_ROUTES.joinToken);
            setRotated(true);
            reload();
          }}
        />
      }
    >
      {rotated && <Note tone="ok" title="A new join token counts from now on" role="status">Copy it from its file to where hosts are set up.</Note>}
      {problem !== undefined && <ProblemNote problem={problem} retry={reload} />}
      {value === undefined ? (
        !may('admin') && <p class="quiet">Who is an admin sees which one counts, and can replace it.</p>
      ) : (
        <dl class="facts">
          <dt>Counts now</dt>
          <dd>
            <code>{value.id}</code>
          </dd>
          <dt>Its secret</dt>
          <dd>
            is only in <code>{value.file}</code> on the tracker's host
          </dd>
          {value.caPin !== undefined && (
            <>
              <dt>Pins the CA</dt>
              <dd>
                <code>{value.caPin}</code>
              </dd>
            </>
          )}
        </dl>
      )}
    </Panel>
  );
}
