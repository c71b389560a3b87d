// What the fleet holds: images with their copies, sizes and last use.

import type { ImagePage, ImageRow } from '@flotilla/shared/operator-api';
import { OPERATOR_ROUTES } from '@flotilla/shared/routes';
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Empty, Loading, ProblemNote } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { Table } from '../components/table.tsx';
import { ago, bytes, count, plural, shortDigest } from '../format.ts';
import { useOnce } from '../once.ts';
import { here, setQuery } from '../router.ts';
import { useFleet } from '../topics.ts';

const MAX_IMAGES = 500;
const TYPING_MS = 250;

export function ImagesPage(): JSX.Element {
  const wanted = here.value.query.get('q') ?? '';
  const asked = useSettled(wanted);
  const { value, problem, reload } = useOnce<ImagePage>(`${OPERATOR_ROUTES.images}?limit=${MAX_IMAGES}&sort=used&q=${encodeURIComponent(asked)}`, ['images']);
  const [last, setLast] = useState<ImagePage>();
  useEffect(() => {
    if (value !== undefined) setLast(value);
  }, [value]);
  const page = value ?? last;
  // How long ago is told anew each second, whether or not the list has changed.
  const { atMs } = useFleet();
  const nowMs = atMs === 0 ? Date.now() : atMs;
  return (
    <Page title="Images" lead={page === undefined ? undefined : `${plural(page.total, 'image')}${page.total > page.images.length ? `, ${count(page.images.length)} shown` : ''}`}>
      {problem !== undefined && <ProblemNote problem={problem} retry={reload} />}
      <section class="panel" aria-label="Images">
        <div class="table-tools">
          <input type="search" aria-label="Narrow by name or digest" placeholder="Narrow: name or digest" value={wanted} onInput={(event) => setQuery({ q: event.currentTarget.value })} />
        </div>
        {page === undefined ? (
          <Loading what="the images" />
        ) : page.images.length === 0 ? (
          <Empty title={asked === '' ? 'No image yet' : 'No image fits'}>
            <p>An image appears here as soon as a host has pulled it by its manifest.</p>
          </Empty>
        ) : (
          <Table
            caption="Images"
            rows={page.images}
            keyOf={({ digest }) => digest}
            sorted={{ head: 'Last used', down: true }}
            columns={[
              { head: 'Image', rowHead: true, cell: (image) => <ImageName image={image} />, sort: ({ names, digest }) => names[0] ?? digest },
              { head: 'Platform', cell: ({ platform }) => platform ?? <span class="quiet">–</span>, sort: ({ platform }) => platform ?? '' },
              { head: 'Copies', number: true, cell: ({ copies }) => count(copies), sort: ({ copies }) => copies },
              { head: 'In part', number: true, cell: ({ partial }) => (partial === 0 ? '–' : count(partial)), sort: ({ partial }) => partial },
              { head: 'Size', number: true, cell: ({ size }) => bytes(size), sort: ({ size }) => size },
              { head: 'Layers', number: true, cell: ({ layers }) => count(layers), sort: ({ layers }) => layers },
              { head: 'Last used', number: true, cell: ({ usedAtMs }) => ago(usedAtMs, nowMs), sort: ({ usedAtMs }) => usedAtMs },
            ]}
          />
        )}
      </section>
    </Page>
  );
}

function ImageName({ image: { digest, names } }: { readonly image: ImageRow }): JSX.Element {
  return (
    <>
      <a href={`/images/${digest}`}>{names[0] ?? <code>{shortDigest(digest)}</code>}</a>
      {names.length > 1 && <span class="quiet small"> and {plural(names.length - 1, 'other name')}</span>}
      {names.length > 0 && (
        <div class="quiet small">
          <code>{shortDigest(digest)}</code>
        </div>
      )}
    </>
  );
}

/** A text, once it has not changed for a moment. */
function useSettled(text: string): string {
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(text), TYPING_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return settled;
}
