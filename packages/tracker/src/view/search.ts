// One search box: hosts, images, blobs, rollouts, finished pulls and clients' requests, by what somebody has at hand. Reads, changes nothing.

import type { SearchHit, SearchResult } from '@flotilla/shared/operator-api';
import type { Fleet } from '../fleet.ts';
import type { View } from './view.ts';

const MAX_PER_KIND = 20;
/** A digest by its first letters, with or without its algorithm. */
const DIGEST_PREFIX = /^(?:sha(?:256|512):)?[0-9a-f]{6,128}$/;

export async function search(text: string, view: View, fleet: Fleet): Promise<SearchResult> {
  const words = text.trim();
  const wanted = words.toLowerCase();
  if (wanted === '') return { hits: [] };
  const digest = DIGEST_PREFIX.test(wanted) ? (wanted.includes(':') ? wanted : `sha256:${wanted}`) : undefined;
  const pulls = await pullHits(words, digest, view);
  const hits = [
    ...hostHits(wanted, words, view),
    ...imageHits(wanted, digest, view),
    ...(digest === undefined ? [] : blobHits(digest, view, fleet)),
    ...rolloutHits(wanted, digest, fleet),
    ...pulls,
  ];
  return { hits };
}

function hostHits(wanted: string, exact: string, { hosts }: View): SearchHit[] {
  const hits: SearchHit[] = [];
  for (const { peerId, info } of hosts.all()) {
    if (hits.length === MAX_PER_KIND) break;
    const labels = Object.entries(info.labels).map(([key, value]) => `${key}=${value}`);
    const fits = peerId.startsWith(exact) || info.name.toLowerCase().includes(wanted) || labels.some((label) => label.toLowerCase() === wanted);
    if (fits) hits.push({ kind: 'host', title: info.name === '' ? peerId : info.name, detail: [info.zone, info.version, ...labels].filter((part) => part !== '').join(' · '), link: `/hosts/${encodeURIComponent(peerId)}` });
  }
  return hits;
}

function imageHits(wanted: string, digest: string | undefined, { catalogue }: View): SearchHit[] {
  const hits: SearchHit[] = [];
  for (const image of catalogue.all()) {
    if (hits.length === MAX_PER_KIND) break;
    const name = image.names.find((each) => each.toLowerCase().includes(wanted));
    if (name === undefined && !(digest !== undefined && image.digest.startsWith(digest))) continue;
    hits.push({ kind: 'image', title: name ?? image.names[0] ?? image.digest, detail: [image.platform, image.digest.slice(0, 19)].filter((part) => part !== undefined).join(' · '), link: `/images/${encodeURIComponent(image.digest)}` });
  }
  return hits;
}

function blobHits(digest: string, { catalogue }: View, { swarms }: Fleet): SearchHit[] {
  const hits: SearchHit[] = [];
  for (const { blob, book } of swarms.starting(digest)) {
    if (hits.length === MAX_PER_KIND) break;
    hits.push({ kind: 'blob', title: blob.digest, detail: [catalogue.nameOf(blob.digest), `${book.holdings.seeds.size} copies`].filter((part) => part !== '').join(' · '), link: `/swarms/${encodeURIComponent(blob.digest)}` });
  }
  return hits;
}

function rolloutHits(wanted: string, digest: string | undefined, fleet: Fleet): SearchHit[] {
  return fleet.rollouts
    .list(fleet.now())
    .filter((rollout) => rollout.id === wanted || rollout.image.toLowerCase().includes(wanted) || (digest !== undefined && rollout.digest?.startsWith(digest) === true))
    .slice(0, MAX_PER_KIND)
    .map(({ id, image, state, hosts }) => ({ kind: 'rollout', title: `${id}: ${image}`, detail: `${state}, ${hosts.done} of ${hosts.total} hosts`, link: `/rollouts/${encodeURIComponent(id)}` }));
}

async function pullHits(words: string, digest: string | undefined, { history }: View): Promise<SearchHit[]> {
  const requests = await history.byRequestBegin(words, MAX_PER_KIND);
  if (requests.length > 0) {
    return requests.map(({ id, host, image, requestIds }) => ({ kind: 'request', title: `${host}: ${image}`, detail: `request ${requestIds.find((each) => each.startsWith(words))}`, link: `/pulls/${encodeURIComponent(id)}` }));
  }
  const queries = digest === undefined ? [{ host: words }, { image: words }] : [{ digest }];
  const pages = await Promise.all(queries.map((query) => history.find({ ...query, limit: MAX_PER_KIND })));
  const pulls = new Map(pages.flatMap((page) => page.pulls).map((pull) => [pull.id, pull]));
  return [...pulls.values()].slice(0, MAX_PER_KIND).map(({ id, host, image, endedAtMs, failed }) => ({ kind: 'pull', title: `${host}: ${image}`, detail: `${failed === undefined ? 'done' : failed} ${new Date(endedAtMs).toISOString()}`, link: `/pulls/${encodeURIComponent(id)}` }));
}
