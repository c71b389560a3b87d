// Switches that hold hosts back and end by themselves: which are on, and a form for another.

import type { Brake } from '@flotilla/shared/live-api';
import type { BrakeRequest } from '@flotilla/shared/operator-api';
import { OPERATOR_ROUTES } from '@flotilla/shared/routes';
import type { JSX } from 'preact';
import { call } from '../api.ts';
import { Action } from '../components/action.tsx';
import { BrakeForm } from '../components/brake-form.tsx';
import { Empty, Loading } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { Panel } from '../components/panel.tsx';
import { PeerLink } from '../components/peer-link.tsx';
import { Table } from '../components/table.tsx';
import { clock, count, duration, plural, rate } from '../format.ts';
import { useFleet, useHosts } from '../topics.ts';

export function BrakesPage(): JSX.Element {
  const { value } = useFleet();
  return (
    <Page title="Brakes" lead="Hold hosts back for a while. Each brake ends by itself on every host, tracker or not.">
      {value === undefined ? (
        <Loading what="the brakes" />
      ) : (
        <>
          <Panel title="On now" flush aside={value.now.brakes.length > 0 ? plural(value.now.brakes.length, 'brake') : undefined}>
            {value.now.brakes.length === 0 ? <Empty title="Nothing is held back" /> : <BrakeTable brakes={value.now.brakes} atMs={value.atMs} />}
          </Panel>
          <BrakeForm />
        </>
      )}
    </Page>
  );
}

function BrakeTable({ brakes, atMs }: { readonly brakes: readonly Brake[]; readonly atMs: number }): JSX.Element {
  return (
    <Table
      caption="Brakes that are on"
      rows={brakes}
      keyOf={({ id }) => id}
      columns={[
        { head: 'Reaches', rowHead: true, cell: ({ scope }) => <Scope scope={scope} /> },
        { head: 'What', cell: (brake) => <span class="wrap">{held(brake).join(', ')}</span> },
        { head: 'Hosts', number: true, cell: ({ hosts }) => count(hosts) },
        { head: 'Ends in', number: true, cell: ({ untilMs }) => <span title={`${clock(untilMs)} UTC`}>{duration(Math.max(0, untilMs - atMs))}</span>, sort: ({ untilMs }) => untilMs },
        { head: 'Why', cell: ({ reason }) => (reason === '' ? <span class="quiet">not said</span> : <span class="wrap break">{reason}</span>) },
        { head: 'Who', cell: ({ setBy }) => setBy },
        {
          head: 'Do',
          cell: (brake) => (
            <Action
              label="Release"
              role="operate"
              confirm={{ title: `Release this brake on ${scopeText(brake.scope)}?`, text: <p>It holds back: {held(brake).join(', ')}.</p> }}
              run={() => call('DELETE', OPERATOR_ROUTES.brake(brake.id))}
            />
          ),
        },
      ]}
    />
  );
}

function Scope({ scope }: { readonly scope: BrakeRequest['scope'] }): JSX.Element {
  const hosts = useHosts().value;
  if (scope.kind !== 'host') return <>{scopeText(scope)}</>;
  const name = [...(hosts?.infos.values() ?? [])].find(({ peerId }) => peerId === scope.peerId)?.name ?? '';
  return <PeerLink peerId={scope.peerId} name={name} />;
}

function scopeText(scope: BrakeRequest['scope']): string {
  return scope.kind === 'fleet' ? 'the whole fleet' : scope.kind === 'zone' ? `zone ${scope.zone}` : 'one host';
}

function held({ stopUploads, originOnly, downloadLimit, uploadLimit }: Brake): string[] {
  return [
    stopUploads && 'no uploads to peers',
    originOnly && 'from the origin alone',
    downloadLimit !== undefined && `download at most ${rate(downloadLimit)}`,
    uploadLimit !== undefined && `upload at most ${rate(uploadLimit)}`,
  ].filter((text) => text !== false);
}
