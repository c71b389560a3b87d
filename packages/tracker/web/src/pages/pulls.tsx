// Finished pulls of the last 7 days, with what gave the bytes.

import type { Pull, PullPage } from '@flotilla/shared/operator-api';
import { OPERATOR_ROUTES } from '@flotilla/shared/routes';
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { ApiProblem, get } from '../api.ts';
import { Badge } from '../components/badge.tsx';
import { Legend, LegendItem } from '../components/bar.tsx';
import { Empty, Loading, ProblemNote } from '../components/note.tsx';
import { PeerLink } from '../components/peer-link.tsx';
import { Page } from '../components/page.tsx';
import { SourcesBar, totalBytes } from '../components/pull-sources.tsx';
import { Table } from '../components/table.tsx';
import { bytes, duration, moment } from '../format.ts';
import { useOnce } from '../once.ts';
import { here, setQuery } from '../router.ts';

const FILTERS = ['host', 'image', 'digest'] as const;

export function PullsPage(): JSX.Element {
  const { query } = here.value;
  const asked = FILTERS.flatMap((name) => (query.get(name) ? [`${name}=${encodeURIComponent(query.get(name)!)}`] : [])).join('&');
  const path = `${OPERATOR_ROUTES.pulls}?limit=100${asked === '' ? '' : `&${asked}`}`;
  const { value, problem, reload } = useOnce<PullPage>(path, ['pulls']);
  const [older, setOlder] = useState<PullPage>();
  const [failure, setFailure] = useState<ApiProblem>();
  useEffect(() => setOlder(undefined), [path]);
  const pulls = [...(value?.pulls ?? []), ...(older?.pulls ?? [])];
  const unique = [...new Map(pulls.map((pull) => [pull.id, pull])).values()];
  const next = older === undefined ? value?.next : older.next;
  const more = (): void => {
    get<PullPage>(`${path}&before=${encodeURIComponent(next!)}`).then(
      (page) => setOlder({ ...page, pulls: [...(older?.pulls ?? []), ...page.pulls] }),
      (error: unknown) => {
        if (!(error instanceof ApiProblem)) throw error;
        setFailure(error);
      },
    );
  };
  const nowMs = Date.now();
  return (
    <Page title="Finished pulls" lead="Of the last 7 days, newest first.">
      {problem !== undefined && <ProblemNote problem={problem} retry={reload} />}
      {failure !== undefined && <ProblemNote problem={failure} />}
      <section class="panel" aria-label="Finished pulls">
        <div class="table-tools">
          {FILTERS.map((name) => (
            <input key={name} type="search" aria-label={`Narrow by ${name}`} placeholder={name} value={query.get(name) ?? ''} onChange={(event) => setQuery({ [name]: event.currentTarget.value.trim() })} spellcheck={false} />
          ))}
          <Legend>
            <LegendItem color="peer">peers</LegendItem>
            <LegendItem color="origin">origin</LegendItem>
            <LegendItem color="stored">here already</LegendItem>
          </Legend>
        </div>
        {value === undefined ? (
          problem === undefined && <Loading what="the pulls" />
        ) : unique.length === 0 ? (
          <Empty title={asked === '' ? 'Nothing was pulled in the last 7 days' : 'No pull fits'} />
        ) : (
          <Table
            caption="Finished pulls, newest first"
            rows={unique}
            keyOf={({ id }) => id}
            columns={[
              { head: 'Image', rowHead: true, cell: (pull) => <a href={`/pulls/${pull.id}`}>{pull.image === '' ? 'name not told' : pull.image}</a> },
              { head: 'Host', cell: ({ peerId, host }) => <PeerLink peerId={peerId} name={host} /> },
              { head: 'Ended (UTC)', number: true, cell: ({ endedAtMs }) => moment(endedAtMs, nowMs), sort: ({ endedAtMs }) => endedAtMs },
              { head: 'Took', number: true, cell: ({ startedAtMs, endedAtMs }) => duration(endedAtMs - startedAtMs), sort: ({ startedAtMs, endedAtMs }) => endedAtMs - startedAtMs },
              { head: 'Bytes', number: true, cell: (pull) => bytes(totalBytes(pull)), sort: totalBytes },
              { head: 'From', cell: (pull) => <SourcesBar pull={pull} /> },
              { head: 'End', cell: ({ failed }: Pull) => (failed === undefined ? <Badge tone="ok">done</Badge> : <Badge tone="bad">{failed}</Badge>) },
            ]}
          />
        )}
        {next !== undefined && (
          <div class="table-foot">
            <button type="button" class="button" onClick={more}>
              Older ones
            </button>
          </div>
        )}
      </section>
    </Page>
  );
}
