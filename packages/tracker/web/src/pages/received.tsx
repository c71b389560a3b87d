// Who got bytes from one member in the last 7 days: what to look at when it sent bad ones.

import type { ReceivedFrom } from '@flotilla/shared/operator-api';
import { OPERATOR_ROUTES } from '@flotilla/shared/routes';
import type { JSX } from 'preact';
import { Empty, Loading, Note, ProblemNote } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { PeerLink } from '../components/peer-link.tsx';
import { Table } from '../components/table.tsx';
import { bytes, moment, plural, shortPeer } from '../format.ts';
import { useOnce } from '../once.ts';
import { useHosts } from '../topics.ts';

export function ReceivedPage({ peerId }: { readonly peerId: string }): JSX.Element {
  const { value, problem, reload } = useOnce<ReceivedFrom>(OPERATOR_ROUTES.received(peerId), ['pulls']);
  const name = [...(useHosts().value?.infos.values() ?? [])].find((info) => info.peerId === peerId)?.name ?? '';
  const nowMs = Date.now();
  return (
    <Page title={`Who got bytes from ${name === '' ? `…${shortPeer(peerId)}` : name}`} crumb={{ href: '/members', text: 'Members' }} lead={value === undefined ? undefined : `${plural(value.receivers.length, 'host')} since ${moment(value.sinceMs, nowMs)} UTC`}>
      {problem !== undefined && <ProblemNote problem={problem} retry={reload} />}
      {value?.complete === false && <Note tone="warning" title="Not complete">Earlier pulls had to make room, or of some pull more peers gave bytes than are kept.</Note>}
      <Note tone="notice" title="What is listed was verified">What a liar sends is found out before it is kept: these bytes had the right digests when they were stored.</Note>
      <section class="panel" aria-label="Receivers">
        {value === undefined ? (
          <Loading what="the receivers" />
        ) : value.receivers.length === 0 ? (
          <Empty title="Nobody, as far as pulls are kept" />
        ) : (
          <Table
            caption="Who got bytes from it"
            rows={value.receivers}
            keyOf={(receiver) => receiver.peerId}
            columns={[
              { head: 'Host', rowHead: true, cell: (receiver) => <PeerLink peerId={receiver.peerId} name={receiver.name} />, sort: (receiver) => receiver.name },
              { head: 'Bytes', number: true, cell: (receiver) => bytes(receiver.bytes), sort: (receiver) => receiver.bytes },
              { head: 'Images', cell: ({ images }) => (images.length === 0 ? <span class="quiet">not told</span> : <span class="wrap break">{images.join(', ')}</span>) },
              { head: 'Last (UTC)', number: true, cell: ({ lastAtMs }) => moment(lastAtMs, nowMs), sort: ({ lastAtMs }) => lastAtMs },
            ]}
          />
        )}
      </section>
    </Page>
  );
}
