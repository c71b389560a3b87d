// An image, as ordinary pulls spread it: how far every host is, who is slow and why, each layer.

import type { ImageNow, ProgressRow } from '@flotilla/shared/live-api';
import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import { Figure, Figures } from '../components/figure.tsx';
import { Empty, Loading } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { LayersPanel, ProgressChart, ProgressGrid, type HostProgress } from '../components/progress.tsx';
import { SlowGroupsPanel, SlowHostsPanel } from '../components/slow.tsx';
import { count, duration, plural, rate, scaled, share, shortDigest } from '../format.ts';
import { may } from '../session.ts';
import { useImage, type ImageState } from '../topics.ts';

export function ImagePage({ digest }: { readonly digest: string }): JSX.Element {
  const { value, gone } = useImage(digest);
  const crumb = { href: '/images', text: 'Images' };
  if (value === undefined) {
    return (
      <Page title={shortDigest(digest)} crumb={crumb}>
        {gone ? (
          <section class="panel">
            <Empty title="No host holds or wants this image now">
              <p>
                <a href={`/search?q=${encodeURIComponent(digest)}`}>Search its finished pulls</a> of the last seven days.
              </p>
            </Empty>
          </section>
        ) : (
          <Loading what="the image" />
        )}
      </Page>
    );
  }
  const { names, now, series } = value;
  return (
    <Page title={names[0] ?? shortDigest(digest)} crumb={crumb} lead={<Lead image={value} />} actions={names[0] !== undefined && may('operate') ? <a class="button" href={`/rollouts/new?image=${encodeURIComponent(names[0])}`}>Roll it out</a> : undefined}>
      <ImageFigures image={value} />
      <Grid image={value} />
      <ProgressChart series={series} hosts={now.hosts} bound={now.bound} />
      {now.done < now.hosts && (
        <div class="columns wide-narrow">
          <SlowHostsPanel slowest={now.slowest} />
          <SlowGroupsPanel groups={now.groups} />
        </div>
      )}
      <LayersPanel title="Layers" layers={now.layers.map(({ mediaType, ...layer }) => ({ ...layer, kind: kindOf(mediaType) }))} />
    </Page>
  );
}

function Lead({ image: { names, digest } }: { readonly image: ImageState }): JSX.Element {
  return (
    <>
      {names.length > 1 && <>also {names.slice(1, 4).join(', ')}{names.length > 4 && ` and ${plural(names.length - 4, 'other name')}`} · </>}
      <code class="break">{digest}</code>
    </>
  );
}

function ImageFigures({ image: { now, size } }: { readonly image: ImageState }): JSX.Element {
  const [number, unit] = scaled(size);
  const [arriving, arrivingUnit] = scaled(now.rate);
  const left = now.layers.reduce((sum, { originBytes }) => sum + originBytes, 0);
  const [origin, originUnit] = scaled(left);
  return (
    <Figures label="The image in figures">
      <Figure label="Size" value={number} unit={unit} note={plural(now.layers.length, 'blob')} />
      <Figure label="Hosts done" value={count(now.done)} note={`of ${count(now.hosts)} that want it or hold it`} />
      <Figure label="Held by all" value={share(now.share)} note={slowNote(now)} />
      <Figure label="Arriving now" value={arriving} unit={`${arrivingUnit}/s`} note={now.hosts > now.done && now.rate > 0 ? `${rate(now.rate / (now.hosts - now.done))} for each host` : 'nothing moves'} />
      <Figure label="Time left" value={now.done === now.hosts ? 'none' : now.timeLeftMs === undefined ? '–' : duration(now.timeLeftMs)} note={now.bound === undefined ? undefined : `the links' bound: ${duration(now.bound.ms)} in all`} />
      <Figure label="Left the origin" value={origin} unit={originUnit} note={size === 0 ? undefined : `${(left / size).toFixed(2)} copies`} tone={size > 0 && left > 1.5 * size ? 'warning' : undefined} />
    </Figures>
  );
}

function slowNote({ groups }: ImageNow): string {
  const slow = groups.byReason.reduce((sum, { key, hosts }) => sum + (key === '' ? 0 : hosts), 0);
  return slow === 0 ? 'nobody is slow' : `${plural(slow, 'host')} slow`;
}

function Grid({ image: { rows, now } }: { readonly image: ImageState }): JSX.Element {
  // The rows are a new table with every event.
  const hosts = useMemo(() => Array.from(rows.values(), toProgress), [rows, now]);
  return <ProgressGrid title="Every host" aside="colour: how much of the image it holds" hosts={hosts} />;
}

function toProgress([n, held, downRate, reason, leftS]: ProgressRow): HostProgress {
  return { n, share: held, rate: downRate, reason, leftS, failed: false, at: '' };
}

function kindOf(mediaType: string): string {
  if (mediaType === '') return '';
  if (/config|container\.image\.v1/.test(mediaType)) return 'config';
  if (/manifest|index/.test(mediaType)) return 'manifest';
  return /zstd/.test(mediaType) ? 'layer, zstd' : /gzip/.test(mediaType) ? 'layer, gzip' : /layer|diff/.test(mediaType) ? 'layer' : mediaType;
}
