// A new rollout: the image, which hosts, how carefully. How many hosts a selector reaches is the tracker's to say when it begins.

import type { RolloutDetail, RolloutRequest } from '@flotilla/shared/rollout-api';
import { ROLLOUT_ROUTES } from '@flotilla/shared/routes';
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { post } from '../api.ts';
import { Action } from '../components/action.tsx';
import { Field } from '../components/field.tsx';
import { Note } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { Panel } from '../components/panel.tsx';
import { plural } from '../format.ts';
import { here, navigate } from '../router.ts';
import { may } from '../session.ts';
import { useHosts } from '../topics.ts';

const MEGABYTE = 1_000_000;
const HOUR_MS = 3_600_000;
const DEADLINES = [1, 4, 12, 24, 72] as const;

interface Wanted {
  readonly image: string;
  readonly hosts: string;
  readonly waves: string;
  /** Percent. */
  readonly pauseOnFailure: string;
  /** MB/s. */
  readonly originLimit: string;
  readonly platform: string;
  /** Hours; 0: none. */
  readonly deadline: number;
  readonly verifyOnly: boolean;
}

export function NewRolloutPage(): JSX.Element {
  const [wanted, setWanted] = useState<Wanted>({ image: here.value.query.get('image') ?? '', hosts: '', waves: '1,10%,100%', pauseOnFailure: '2', originLimit: '', platform: '', deadline: 0, verifyOnly: false });
  const set = (part: Partial<Wanted>): void => setWanted({ ...wanted, ...part });
  const known = [...(useHosts().value?.infos.values() ?? [])];
  const zones = [...new Set(known.map(({ zone }) => zone))].filter((zone) => zone !== '').sort();
  const run = async (): Promise<void> => {
    const { id } = await post<RolloutDetail>(ROLLOUT_ROUTES.all, requestOf(wanted, Date.now()));
    navigate(`/rollouts/${id}`);
  };
  return (
    <Page title="New rollout" crumb={{ href: '/rollouts', text: 'Rollouts' }} lead="Have one image on chosen hosts: the tag is resolved once, and every host gets that digest.">
      {!may('operate') && <Note tone="notice" title="You may look, but not begin a rollout">Ask for a token with the role operate.</Note>}
      <Panel title="What and where">
        <div class="form">
          <Field label="Image" hint="With its registry, such as docker.io/library/nginx:1.27">
            {(ids) => <input {...ids} class="mono" value={wanted.image} onInput={(event) => set({ image: event.currentTarget.value.trim() })} required maxLength={512} autocomplete="off" spellcheck={false} />}
          </Field>
          <Field label="Hosts" hint={`Empty: all ${plural(known.length, 'host')}. Else conditions that all hold: zone=a,role!=db,name=web-*${zones.length > 0 ? `. Zones: ${zones.slice(0, 6).join(', ')}${zones.length > 6 ? ' …' : ''}` : ''}`}>
            {(ids) => <input {...ids} class="mono" value={wanted.hosts} onInput={(event) => set({ hosts: event.currentTarget.value.trim() })} maxLength={1024} autocomplete="off" spellcheck={false} />}
          </Field>
          <Field label="Platform" hint="Empty: each host its own. Else such as linux/arm64">
            {(ids) => <input {...ids} class="mono" value={wanted.platform} onInput={(event) => set({ platform: event.currentTarget.value.trim() })} maxLength={64} autocomplete="off" spellcheck={false} />}
          </Field>
        </div>
      </Panel>
      <Panel title="How carefully">
        <div class="form">
          <Field label="Waves" hint="How many hosts have begun with each wave; the last is 100%.">
            {(ids) => <input {...ids} class="mono" value={wanted.waves} onInput={(event) => set({ waves: event.currentTarget.value.trim() })} maxLength={256} autocomplete="off" spellcheck={false} />}
          </Field>
          <Field label="Stop by itself above" hint="Percent of the hosts begun so far that failed.">
            {(ids) => <input {...ids} type="number" min={0} max={100} step="any" value={wanted.pauseOnFailure} onInput={(event) => set({ pauseOnFailure: event.currentTarget.value })} />}
          </Field>
          <Field label="From the origin at most" hint="MB/s, all hosts together; empty: no limit.">
            {(ids) => <input {...ids} type="number" min={0.01} step="any" value={wanted.originLimit} onInput={(event) => set({ originLimit: event.currentTarget.value })} />}
          </Field>
          <Field label="Deadline" hint="No host begins or goes on after it.">
            {(ids) => (
              <select {...ids} value={wanted.deadline} onChange={(event) => set({ deadline: Number(event.currentTarget.value) })}>
                <option value={0}>none</option>
                {DEADLINES.map((hours) => (
                  <option key={hours} value={hours}>
                    in {plural(hours, 'hour')}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <div class="field">
            <span class="label">Only look</span>
            <label class="check">
              <input type="checkbox" checked={wanted.verifyOnly} onChange={(event) => set({ verifyOnly: event.currentTarget.checked })} />
              <span>
                Verify only <span class="hint">reads and checks what is there; fetches nothing</span>
              </span>
            </label>
          </div>
          <div class="full form-end">
            {wanted.image === '' ? (
              <>
                <button type="button" class="button primary" disabled>
                  Begin
                </button>
                <span class="quiet small">Name an image.</span>
              </>
            ) : (
              <Action label="Begin" icon="play" look="primary" role="operate" run={run} />
            )}
          </div>
        </div>
      </Panel>
    </Page>
  );
}

function requestOf({ image, hosts, waves, pauseOnFailure, originLimit, platform, deadline, verifyOnly }: Wanted, nowMs: number): RolloutRequest {
  return {
    image,
    ...(hosts !== '' && { hosts }),
    ...(waves !== '' && { waves }),
    ...(pauseOnFailure !== '' && { pauseOnFailure: Number(pauseOnFailure) / 100 }),
    ...(originLimit !== '' && { originLimit: Math.round(Number(originLimit) * MEGABYTE) }),
    ...(platform !== '' && { platform }),
    ...(deadline > 0 && { deadlineMs: nowMs + deadline * HOUR_MS }),
    ...(verifyOnly && { verifyOnly }),
  };
}
