// A new brake: whom it reaches, what it holds back, for how long and why. Asked once more before it is set, with how many hosts it reaches.

import type { BrakeRequest } from '@flotilla/shared/operator-api';
import { OPERATOR_ROUTES } from '@flotilla/shared/routes';
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { post } from '../api.ts';
import { duration, plural } from '../format.ts';
import { useHosts } from '../topics.ts';
import { Action } from './action.tsx';
import { Field } from './field.tsx';
import { Panel } from './panel.tsx';

const MINUTE_MS = 60_000;
const TIMES = [5, 15, 60, 240, 1440] as const;
const MEGABYTE = 1_000_000;

export function BrakeForm(): JSX.Element {
  const [kind, setKind] = useState<'fleet' | 'zone' | 'host'>('fleet');
  const [target, setTarget] = useState('');
  const [what, setWhat] = useState({ stopUploads: false, originOnly: false });
  const [download, setDownload] = useState('');
  const [upload, setUpload] = useState('');
  const [between, setBetween] = useState('');
  const [minutes, setMinutes] = useState<number>(15);
  const [reason, setReason] = useState('');
  const hosts = [...(useHosts().value?.infos.values() ?? [])];
  const zones = [...new Set(hosts.map(({ zone }) => zone))].filter((zone) => zone !== '').sort();
  const host = hosts.find(({ name, peerId }) => name === target || peerId === target);
  const reached = kind === 'fleet' ? hosts.length : kind === 'zone' ? hosts.filter(({ zone }) => zone === target).length : host === undefined ? 0 : 1;
  const nothing = !what.stopUploads && !what.originOnly && download === '' && upload === '' && between === '';
  const lacks = nothing ? 'Choose what it holds back.' : kind === 'zone' && !zones.includes(target) ? 'Choose a zone.' : kind === 'host' && host === undefined ? 'Name a host of the fleet.' : undefined;
  const whom = kind === 'fleet' ? 'the whole fleet' : kind === 'zone' ? `zone ${target}` : (host?.name ?? target);
  const run = async (): Promise<void> => {
    const scope: BrakeRequest['scope'] = kind === 'fleet' ? { kind } : kind === 'zone' ? { kind, zone: target } : { kind, peerId: host!.peerId };
    const limits = { ...(download !== '' && { downloadLimit: Number(download) * MEGABYTE }), ...(upload !== '' && { uploadLimit: Number(upload) * MEGABYTE }), ...(between !== '' && { zoneLimit: Number(between) * MEGABYTE }) };
    await post(OPERATOR_ROUTES.brakes, { scope, ...what, ...limits, reason, forMs: minutes * MINUTE_MS } satisfies BrakeRequest);
    setWhat({ stopUploads: false, originOnly: false });
    setDownload('');
    setUpload('');
    setBetween('');
    setReason('');
  };
  return (
    <Panel title="Set a brake">
      <div class="form">
        <div class="field">
          <span class="label" id="brake-scope">
            Whom
          </span>
          <div class="segments" role="radiogroup" aria-labelledby="brake-scope">
            {(['fleet', 'zone', 'host'] as const).map((each) => (
              <label key={each}>
                <input
                  type="radio"
                  name="scope"
                  checked={kind === each}
                  onChange={() => {
                    setKind(each);
                    setTarget('');
                  }}
                />
                {each}
              </label>
            ))}
          </div>
        </div>
        {kind === 'zone' && (
          <Field label="Zone">
            {(ids) => (
              <select {...ids} value={target} onChange={(event) => setTarget(event.currentTarget.value)}>
                <option value="">Choose a zone</option>
                {zones.map((zone) => (
                  <option key={zone} value={zone}>
                    {zone}
                  </option>
                ))}
              </select>
            )}
          </Field>
        )}
        {kind === 'host' && (
          <Field label="Host" hint="By its name or peer id.">
            {(ids) => <input {...ids} value={target} onInput={(event) => setTarget(event.currentTarget.value.trim())} autocomplete="off" spellcheck={false} />}
          </Field>
        )}
        <div class="field">
          <span class="label">What</span>
          <label class="check">
            <input type="checkbox" checked={what.stopUploads} onChange={(event) => setWhat({ ...what, stopUploads: event.currentTarget.checked })} />
            <span>
              Stop uploads <span class="hint">sends peers nothing</span>
            </span>
          </label>
          <label class="check">
            <input type="checkbox" checked={what.originOnly} onChange={(event) => setWhat({ ...what, originOnly: event.currentTarget.checked })} />
            <span>
              Origin only <span class="hint">as if there were no fleet; more than one copy leaves the origin</span>
            </span>
          </label>
        </div>
        <Field label="Download at most" hint="MB/s for each host; empty: no more than its own settings say.">
          {(ids) => <input {...ids} type="number" min={0.01} step="any" value={download} onInput={(event) => setDownload(event.currentTarget.value)} />}
        </Field>
        <Field label="Upload at most" hint="MB/s for each host.">
          {(ids) => <input {...ids} type="number" min={0.01} step="any" value={upload} onInput={(event) => setUpload(event.currentTarget.value)} />}
        </Field>
        <Field label="Between zones at most" hint="MB/s for each host, to peers of other zones and as much from them.">
          {(ids) => <input {...ids} type="number" min={0.01} step="any" value={between} onInput={(event) => setBetween(event.currentTarget.value)} />}
        </Field>
        <Field label="For">
          {(ids) => (
            <select {...ids} value={minutes} onChange={(event) => setMinutes(Number(event.currentTarget.value))}>
              {TIMES.map((each) => (
                <option key={each} value={each}>
                  {duration(each * MINUTE_MS)}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label="Why" hint="For the audit log, and for who wonders.">
          {(ids) => <input {...ids} value={reason} maxLength={255} onInput={(event) => setReason(event.currentTarget.value)} autocomplete="off" />}
        </Field>
        <div class="full form-end">
          {lacks === undefined ? (
            <Action
              label="Set the brake"
              role="operate"
              look="primary"
              confirm={{ title: `Hold back ${whom}?`, text: <p>It reaches {plural(reached, 'host')} at once, and ends by itself in {duration(minutes * MINUTE_MS)}.</p> }}
              run={run}
            />
          ) : (
            <button type="button" class="button primary" disabled>
              Set the brake
            </button>
          )}
          {lacks !== undefined && <span class="quiet small">{lacks}</span>}
        </div>
      </div>
    </Panel>
  );
}
