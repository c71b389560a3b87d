// One finished pull: which host took which blobs, from whom, and by which requests.

import type { Pull } from '@flotilla/shared/operator-api';
import { OPERATOR_ROUTES } from '@flotilla/shared/routes';
import type { JSX } from 'preact';
import { Badge } from '../components/badge.tsx';
import { Bar } from '../components/bar.tsx';
import { Figure, Figures } from '../components/figure.tsx';
import { Empty, Loading, ProblemNote } from '../components/note.tsx';
import { DigestLink, PeerLink } from '../components/peer-link.tsx';
import { Page } from '../components/page.tsx';
import { Panel } from '../components/panel.tsx';
import { SourcesBar, totalBytes } from '../components/pull-sources.tsx';
import { Table } from '../components/table.tsx';
import { bytes, count, duration, moment, plural, rate, scaled, share } from '../format.ts';
import { useOnce } from '../once.ts';

export function PullPage({ id }: { readonly id: string }): JSX.Element {
  const { value: pull, problem, reload } = useOnce<Pull>(OPERATOR_ROUTES.pull(id));
  const crumb = { href: '/pulls', text: 'Finished pulls' };
  if (pull === undefined) return <Page title="Pull" crumb={crumb}>{problem === undefined ? <Loading what="the pull" /> : <ProblemNote problem={problem} retry={reload} />}</Page>;
  const nowMs = Date.now();
  const total = totalBytes(pull);
  const tookMs = Math.max(1, pull.endedAtMs - pull.startedAtMs);
  const [number, unit] = scaled(total);
  return (
    <Page
      title={pull.image === '' ? 'Pull' : pull.image}
      badge={pull.failed === undefined ? <Badge tone="ok">done</Badge> : <Badge tone="bad">{pull.failed}</Badge>}
      crumb={crumb}
      lead={
        <>
          on <PeerLink peerId={pull.peerId} name={pull.host} />
          {pull.zone !== '' && `, zone ${pull.zone}`} · ended {moment(pull.endedAtMs, nowMs)} UTC
          {pull.digest !== undefined && (
            <>
              {' · '}
              <DigestLink digest={pull.digest} to="images" />
            </>
          )}
        </>
      }
    >
      <Figures label="The pull in figures">
        <Figure label="Bytes" value={number} unit={unit} note={plural(pull.blobs.length, 'blob')} />
        <Figure label="Took" value={duration(tookMs)} note={`${rate((1000 * total) / tookMs)} on average`} />
        <Figure label="From peers" value={share(total === 0 ? 0 : Math.floor((1000 * pull.bytes.peer) / total))} note={`${bytes(pull.bytes.peer)} of ${plural(pull.sources, 'peer')}`} />
        <Figure label="From the origin" value={share(total === 0 ? 0 : Math.floor((1000 * pull.bytes.origin) / total))} note={bytes(pull.bytes.origin)} />
        <Figure label="Came twice" value={bytes(pull.bytes.duplicate)} note="thrown away" />
      </Figures>
      <div class="columns">
        <Panel title="Who gave it" flush aside={pull.sources > pull.from.length ? `the ${count(pull.from.length)} that gave most of ${count(pull.sources)}` : undefined}>
          <div class="panel-bar">
            <SourcesBar pull={pull} thick />
          </div>
          {pull.from.length === 0 ? (
            <Empty title="No peer gave any of it" />
          ) : (
            <Table
              caption="Peers that gave bytes"
              rows={pull.from}
              keyOf={({ peerId }) => peerId}
              columns={[
                { head: 'Peer', rowHead: true, cell: ({ peerId, name }) => <PeerLink peerId={peerId} name={name} /> },
                { head: 'Share', cell: (from) => <Bar parts={[{ value: from.bytes, color: 'peer' }]} total={total} /> },
                { head: 'Bytes', number: true, cell: (from) => bytes(from.bytes) },
              ]}
            />
          )}
        </Panel>
        <Panel title="Blobs" flush>
          <Table
            caption="Blobs of the pull"
            rows={pull.blobs}
            keyOf={({ digest }) => digest}
            columns={[
              { head: 'Blob', rowHead: true, cell: ({ digest }) => <DigestLink digest={digest} to="swarms" /> },
              { head: 'Size', number: true, cell: ({ size }) => bytes(size), sort: ({ size }) => size },
            ]}
          />
        </Panel>
      </div>
      {pull.requestIds.length > 0 && (
        <Panel title="Requests">
          <p class="quiet small">As the client called them; the same ids stand in the agent's log, and the origin was told them.</p>
          <p class="ids">
            {pull.requestIds.map((request) => (
              <code key={request}>{request}</code>
            ))}
          </p>
        </Panel>
      )}
    </Page>
  );
}
