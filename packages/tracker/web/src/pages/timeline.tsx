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
import { useFleet, type FleetState } from '../topics.ts';

const HOUR_MS = 3_600_000;
/** This browser's clock may be as far ahead of the tracker's. */
const CLOCKS_MS = 300_000;
const SPANS = [
  ['1 h', HOUR_MS],
  ['6 h', 6 * HOUR_MS],
  ['1 day', 24 * HOUR_MS],
  ['7 days', 168 * HOUR_MS],
] as const;
const KINDS = ['version', 'settings', 'rollout', 'member', 'brake', 'verdict', 'access', 'tracker'] as const;

export function TimelinePage(): JSX.Element {
  const { query } = here.value;
  const span = SPANS.find(([text]) => text === query.get('span')) ?? SPANS[0];
  const kind = query.get('kind') ?? '';
  const { value: fleet, atMs } = useFleet();
  const toMs = atMs === 0 ? Date.now() : atMs;
  // Once for a span: what leaves it while the page is open is cut off here.
  const askedFromMs = useMemo(() => Date.now() - span[1] - CLOCKS_MS, [span]);
  const fromMs = toMs - span[1];
  const { value, problem, reload } = useOnce<Timeline>(`${OPERATOR_ROUTES.timeline}?fromMs=${askedFromMs}`, ['audit', 'minutes']);
  const events = useMemo(() => value?.events.filter((event) => event.atMs >= fromMs && (kind === '' || event.kind === kind)) ?? [], [value, kind, fromMs]);
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
      {value === undefined ? problem === undefined && <Loading what="the timeline" /> : <Curve timeline={value} fleet={fleet} toMs={toMs} span={span[1]} events={events} />}
      {value !== undefined && <Changes toMs={toMs} events={events} />}
    </Page>
  );
}

interface CurveProps {
  readonly timeline: Timeline;
  readonly fleet: FleetState | undefined;
  readonly toMs: number;
  readonly span: number;
  readonly events: readonly TimelineEvent[];
}

/** The last hour by the second, as the stream tells it; longer spans by the minute, and at their end what moves now. */
function Curve({ timeline, fleet, toMs, span, events }: CurveProps): JSX.Element {
  const fromMs = toMs - span;
  const bySecond = span <= HOUR_MS && fleet !== undefined;
  const data = useMemo(() => curve(bySecond ? fleet.series : timeline.series, fromMs / 1000, toMs / 1000, bySecond ? 1 : timeline.stepMs / 1000, fleet), [timeline, toMs, span]);
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
function curve(series: readonly (readonly number[])[], from: number, to: number, step: number, fleet: FleetState | undefined): ChartData {
  const [times, peers, origins] = [[from], [0], [0]] as [number[], number[], number[]];
  const push = (at: number, peer: number, origin: number): void => {
    if (at <= times.at(-1)!) return;
    times.push(at);
    peers.push(peer);
    origins.push(origin);
  };
  for (const [at = 0, peer = 0, origin = 0] of series) {
    if (at <= from) continue;
    if (at - times.at(-1)! > 2 * step) {
      push(times.at(-1)! + step, 0, 0);
      push(at - step, 0, 0);
    }
    push(at, peer, origin);
  }
  if (to - times.at(-1)! > 2 * step) push(times.at(-1)! + step, 0, 0);
  push(to, fleet?.now.rates.peer ?? 0, fleet?.now.rates.origin ?? 0);
  return [times, peers, origins];
}

function Changes({ toMs, events }: { readonly toMs: number; readonly events: readonly TimelineEvent[] }): JSX.Element {
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
