// What changed, over the throughput curve: versions, settings, rollouts, members, brakes, verdicts, and who did it.

import type { Timeline, TimelineEvent } from '@flotilla/shared/operator-api';
import { OPERATOR_ROUTES } from '@flotilla/shared/routes';
import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import { Chart, type ChartData } from '../components/chart.tsx';
import { Empty, Loading, ProblemNote } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { Panel } from '../components/panel.tsx';
import { Table } from '../components/table.tsx';
import { clock, count, duration, momentExactly, plural, rate } from '../format.ts';
import { useOnce } from '../once.ts';
import { here, setQuery } from '../router.ts';

const HOUR_MS = 3_600_000;
const SPANS = [
  ['1 h', HOUR_MS],
  ['6 h', 6 * HOUR_MS],
  ['1 day', 24 * HOUR_MS],
  ['7 days', 168 * HOUR_MS],
] as const;
/** A curve of more than the last hour has a figure for each minute. */
const MINUTES_MS = 10_000;
const KINDS = ['version', 'settings', 'rollout', 'member', 'brake', 'verdict', 'access', 'tracker'] as const;

export function TimelinePage(): JSX.Element {
  const { query } = here.value;
  const span = SPANS.find(([text]) => text === query.get('span')) ?? SPANS[0];
  const kind = query.get('kind') ?? '';
  // Rounded: otherwise each drawing would ask for another time. Up: within the last hour there is a figure for each second.
  const fromMs = Math.ceil((Date.now() - span[1]) / 60_000) * 60_000;
  const { value, problem, reload } = useOnce<Timeline>(`${OPERATOR_ROUTES.timeline}?fromMs=${fromMs}`, { everyMs: span[1] > HOUR_MS ? MINUTES_MS : 1_000 });
  const events = useMemo(() => value?.events.filter((event) => kind === '' || event.kind === kind) ?? [], [value, kind]);
  return (
    <Page
      title="Timeline"
      lead="What changed since it worked?"
      actions={
        <>
          <select aria-label="Kinds of changes" value={kind} onChange={(event) => setQuery({ kind: event.currentTarget.value })}>
            <option value="">All changes</option>
            {KINDS.map((each) => (
              <option key={each} value={each}>
                {each}
              </option>
            ))}
          </select>
          <fieldset class="segments">
            <legend class="visually-hidden">Time span</legend>
            {SPANS.map((each) => (
              <label key={each[0]}>
                <input type="radio" name="span" checked={each === span} onChange={() => setQuery({ span: each[0] === SPANS[0][0] ? '' : each[0] })} />
                {each[0]}
              </label>
            ))}
          </fieldset>
        </>
      }
    >
      {problem !== undefined && <ProblemNote problem={problem} retry={reload} />}
      {value === undefined ? problem === undefined && <Loading what="the timeline" /> : <Curve timeline={value} events={events} />}
      {value !== undefined && <Changes timeline={value} events={events} />}
    </Page>
  );
}

function Curve({ timeline, events }: { readonly timeline: Timeline; readonly events: readonly TimelineEvent[] }): JSX.Element {
  const { fromMs, toMs, stepMs, series } = timeline;
  const data = useMemo(() => curve(series, fromMs / 1000, toMs / 1000, stepMs / 1000), [timeline]);
  const span = Math.max(1, toMs - fromMs);
  return (
    <Panel title="Throughput and changes" aside={`${duration(span)} to ${clock(toMs)} UTC`}>
      <Chart
        label={`Bytes per second at all hosts over the last ${duration(span)}, with ${plural(events.length, 'change')}`}
        data={data}
        series={[
          { name: 'from peers', color: 'peer', area: true },
          { name: 'from origins', color: 'origin' },
        ]}
        format={rate}
        x="time"
        height={220}
      />
      <div class="event-lane" aria-hidden="true">
        {events.map((event) => (
          <span key={event.entry.id} class={`event kind-${event.kind}`} title={`${clock(event.atMs)} ${event.text}`} style={{ left: `${(100 * (event.atMs - fromMs)) / span}%` }} />
        ))}
      </div>
      <div class="legend event-legend">
        {KINDS.filter((each) => events.some(({ kind }) => kind === each)).map((each) => (
          <span key={each}>
            <span class={`event kind-${each}`} />
            {each}
          </span>
        ))}
      </div>
    </Panel>
  );
}

/** From the first second of the span to its last, so that changes below stand where they belong. */
function curve(series: readonly (readonly number[])[], from: number, to: number, step: number): ChartData {
  const [times, peers, origins] = [[from], [0], [0]] as [number[], number[], number[]];
  const push = (at: number, peer: number, origin: number): void => {
    if (at <= times.at(-1)!) return;
    times.push(at);
    peers.push(peer);
    origins.push(origin);
  };
  for (const [at = 0, peer = 0, origin = 0] of series) {
    if (at - times.at(-1)! > 2 * step) {
      push(times.at(-1)! + step, 0, 0);
      push(at - step, 0, 0);
    }
    push(at, peer, origin);
  }
  if (to - times.at(-1)! > 2 * step) push(times.at(-1)! + step, 0, 0);
  push(to, 0, 0);
  return [times, peers, origins];
}

function Changes({ timeline: { toMs }, events }: { readonly timeline: Timeline; readonly events: readonly TimelineEvent[] }): JSX.Element {
  return (
    <Panel title="Changes" flush aside={events.length > 0 ? `${count(events.length)}, newest first` : undefined}>
      {events.length === 0 ? (
        <Empty title="Nothing has changed in this time" />
      ) : (
        <Table
          caption="Changes, newest first"
          rows={events}
          keyOf={({ entry }) => entry.id}
          columns={[
            { head: 'When (UTC)', rowHead: true, cell: ({ atMs }) => <span title={new Date(atMs).toISOString()}>{momentExactly(atMs, toMs)}</span> },
            {
              head: 'Kind',
              cell: ({ kind }) => (
                <span class="nowrap">
                  <span class={`event kind-${kind}`} aria-hidden="true" /> {kind}
                </span>
              ),
            },
            { head: 'What', cell: ({ text }) => <span class="wrap break">{text}</span> },
            { head: 'Who', cell: ({ entry }) => (entry.actor === 'tracker' ? <span class="quiet">the tracker itself</span> : entry.actor) },
          ]}
        />
      )}
    </Panel>
  );
}
