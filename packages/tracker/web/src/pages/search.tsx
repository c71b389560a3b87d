// What the search box finds: hosts, images, blobs, pulls, request ids, rollouts.

import type { SearchHit, SearchResult } from '@flotilla/shared/operator-api';
import { OPERATOR_ROUTES } from '@flotilla/shared/routes';
import type { JSX } from 'preact';
import { Icon, type IconName } from '../components/icon.tsx';
import { Empty, Loading, ProblemNote } from '../components/note.tsx';
import { Page } from '../components/page.tsx';
import { Panel } from '../components/panel.tsx';
import { plural } from '../format.ts';
import { useOnce } from '../once.ts';
import { here } from '../router.ts';

const KINDS: readonly (readonly [SearchHit['kind'], string, IconName])[] = [
  ['request', 'Requests', 'pulls'],
  ['rollout', 'Rollouts', 'rollout'],
  ['image', 'Images', 'image'],
  ['host', 'Hosts', 'host'],
  ['blob', 'Blobs', 'image'],
  ['pull', 'Finished pulls', 'pulls'],
];

/** The tracker lists no more of a kind. */
const MAX_HITS = 20;

export function SearchPage(): JSX.Element {
  const wanted = here.value.query.get('q')?.trim() ?? '';
  const { value, problem, reload } = useOnce<SearchResult>(wanted === '' ? undefined : `${OPERATOR_ROUTES.search}?q=${encodeURIComponent(wanted)}`);
  return (
    <Page title={wanted === '' ? 'Search' : `Search: ${wanted}`} lead={value === undefined ? undefined : plural(value.hits.length, 'hit')}>
      {problem !== undefined && <ProblemNote problem={problem} retry={reload} />}
      {wanted === '' ? (
        <Nothing title="Search for an image, a digest, a host or a request id" />
      ) : value === undefined ? (
        problem === undefined && <Loading what="hits" />
      ) : value.hits.length === 0 ? (
        <Nothing title="Nothing is called that" />
      ) : (
        KINDS.map(([kind, title, icon]) => {
          const hits = value.hits.filter((hit) => hit.kind === kind);
          return hits.length === 0 ? null : <Hits key={kind} title={title} icon={icon} hits={hits} />;
        })
      )}
    </Page>
  );
}

function Nothing({ title }: { readonly title: string }): JSX.Element {
  return (
    <section class="panel">
      <Empty title={title}>
        <p>A part of a name is enough for images and hosts; for digests, peer ids and request ids the beginning. Pulls are kept for 7 days.</p>
      </Empty>
    </section>
  );
}

function Hits({ title, icon, hits }: { readonly title: string; readonly icon: IconName; readonly hits: readonly SearchHit[] }): JSX.Element {
  return (
    <Panel title={title} flush aside={hits.length >= MAX_HITS ? `the first ${MAX_HITS}` : plural(hits.length, 'hit')}>
      <ul class="hits">
        {hits.map((hit) => (
          <li key={`${hit.link} ${hit.title}`}>
            <Icon name={icon} size={14} />
            <a class="break" href={`/${hit.link.replace(/^\//, '')}`}>
              {hit.title}
            </a>
            <span class="quiet small break">{hit.detail}</span>
          </li>
        ))}
      </ul>
    </Panel>
  );
}
