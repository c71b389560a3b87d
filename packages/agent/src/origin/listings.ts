// What an origin lists: the tags of a repository and the referrers of a digest, page by page.
//
// Tags come as the origin pages them, in its order: `n` and `last` are handed on. Where its cursor is its own secret (a `next` link without
// `last`) all pages are read here and cut. Referrers have no cursor that a client could give, so that all pages are read.
// A page's link is followed at the origin that gave it, whatever host it names. Non-goals: the tag scheme, filters, sorting.

import { isDigest, type Digest } from '@flotilla/shared/digest';
import type { Authority, Granted, Referrer, Referrers, Repository, TagPage } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import { discard, headerOf, readWhole } from './body.ts';
import type { Answered, Calls, Question } from './calls.ts';
import { field } from './failures.ts';
import type { OriginLink } from './links.ts';

/** Of one page. Registries bound a list of referrers as they do any manifest; tags are short. */
const MAX_PAGE_BYTES = 4 * 1024 * 1024;
/** Of all pages that are read for one answer. */
const MAX_PAGES = 200;
const MAX_ENTRIES = 100_000;
const MAX_LIST_BYTES = 32 * 1024 * 1024;

const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
/** Answers of registries that do not know the route; 404 too, unless it says that the repository is not there. */
const NO_REFERRERS_STATUS: ReadonlySet<number> = new Set([400, 404, 405, 406, 415, 501]);

interface Page {
  readonly answer: Answered;
  readonly content: unknown;
  /** Path and query of the next page. */
  readonly next: string | undefined;
  readonly bytes: number;
}

/** @throws AgentError REPOSITORY_UNKNOWN, ORIGIN_LISTING and those of every question */
export async function listTags(calls: Calls, link: OriginLink, { repository }: Repository, page: { n?: number; last?: string }, authority: Authority, signal: AbortSignal): Promise<Granted<TagPage>> {
  const { n, last } = page;
  const query = new URLSearchParams({
    // Whether the repository may be read must be known for an empty list too.
    ...(n !== undefined && { n: String(Math.max(n, 1)) }),
    ...(last !== undefined && { last }),
  });
  const path = `/v2/${repository}/tags/list`;
  const question = (target: string): Question => ({ kind: 'list', method: 'GET', repository, authority, path: target, headers: { accept: 'application/json' }, lane: 'talk' });
  const first = await page200(calls, link, question(query.size === 0 ? path : `${path}?${query.toString()}`), signal);
  const { right } = first.answer;
  const marker = first.next === undefined ? undefined : new URL(first.next, link.entry.urls[0]).searchParams.get('last');
  if (marker !== null) {
    const tags = tagsOf(first, link);
    // An origin that ignores `last` begins at the beginning.
    const seen = last === undefined ? -1 : tags.indexOf(last);
    return { ...cut(tags.slice(seen + 1), n, marker), right };
  }
  // Its cursor cannot be handed on, and `last` may have meant nothing to it.
  const start = last === undefined ? first : await page200(calls, link, question(path), signal);
  const tags = await allPages(calls, link, start, question, (each) => tagsOf(each, link), signal);
  return { ...cut(last === undefined ? tags : tags.slice(indexAfter(tags, last)), n, undefined), right };
}

/** @throws AgentError REPOSITORY_UNKNOWN, ORIGIN_LISTING and those of every question */
export async function listReferrers(calls: Calls, link: OriginLink, { repository }: Repository, digest: Digest, authority: Authority, signal: AbortSignal): Promise<Granted<Referrers>> {
  const question = (path: string): Question => ({ kind: 'list', method: 'GET', repository, authority, path, headers: { accept: OCI_INDEX }, lane: 'talk' });
  const answer = await calls.ask(link, question(`/v2/${repository}/referrers/${digest}`), signal);
  const { right } = answer;
  const type = headerOf(answer, 'content-type')?.split(';')[0]?.trim().toLowerCase();
  if (answer.status === 200 && type !== OCI_INDEX) {
    // A page for people, or whatever the origin answers to every path.
    discard(answer);
    return { supported: false, right };
  }
  if (answer.status !== 200) {
    const failure = await calls.failureOf(link, answer, 'list', signal);
    if (!NO_REFERRERS_STATUS.has(answer.status) || failure.detail?.['originCode'] === 'NAME_UNKNOWN') throw failure;
    return { supported: false, right };
  }
  const first = await readPage(link, answer, signal);
  const manifests = await allPages(calls, link, first, question, (page) => referrersOf(page, link), signal);
  return { supported: true, manifests, right };
}

async function page200(calls: Calls, link: OriginLink, question: Question, signal: AbortSignal): Promise<Page> {
  const answer = await calls.ask(link, question, signal);
  if (answer.status !== 200) throw await calls.failureOf(link, answer, 'list', signal);
  return readPage(link, answer, signal);
}

async function readPage(link: OriginLink, answer: Answered, signal: AbortSignal): Promise<Page> {
  const bytes = await readWhole(answer, MAX_PAGE_BYTES, { origin: link.entry.name, url: answer.url }, signal);
  if (bytes === undefined) throw malformed(link, `a page of a list is over ${MAX_PAGE_BYTES} bytes`);
  try {
    return { answer, content: JSON.parse(bytes.toString('utf8')), next: nextPath(link, answer), bytes: bytes.length };
  } catch (error) {
    if (error instanceof AgentError) throw error;
    throw malformed(link, 'a list is no JSON', error);
  }
}

/** The entries of `first` and of all pages behind it. */
async function allPages<T>(
  calls: Calls,
  link: OriginLink,
  first: Page,
  question: (path: string) => Question,
  read: (page: Page) => readonly T[],
  signal: AbortSignal,
): Promise<T[]> {
  const entries = [...read(first)];
  let { next, bytes } = first;
  for (let pages = 1; next !== undefined; pages++) {
    if (pages >= MAX_PAGES || entries.length > MAX_ENTRIES || bytes > MAX_LIST_BYTES) throw malformed(link, 'a list does not end');
    const page = await page200(calls, link, question(next), signal);
    entries.push(...read(page));
    bytes += page.bytes;
    next = page.next;
  }
  return entries;
}

/** The path and query of `Link: <...>; rel="next"` (RFC 8288). */
function nextPath(link: OriginLink, answer: Answered): string | undefined {
  const header = headerOf(answer, 'link');
  if (header === undefined) return undefined;
  for (const [, target = '', params = ''] of header.matchAll(/<([^<>]*)>((?:\s*;\s*[^\s=;,]+\s*=\s*(?:"[^"]*"|[^\s",;]*))*)/g)) {
    if (!/;\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next(?=\s|;|$))/i.test(params)) continue;
    const url = URL.canParse(target, answer.url) ? new URL(target, answer.url) : undefined;
    if (url === undefined || !url.pathname.startsWith('/v2/')) throw malformed(link, 'the next page of a list has no address under /v2/');
    return `${url.pathname}${url.search}`;
  }
  return undefined;
}

function tagsOf({ content }: Page, link: OriginLink): readonly string[] {
  const tags = field(content, 'tags');
  // A repository without tags: some registries say null.
  if (tags === null) return [];
  if (!Array.isArray(tags) || !tags.every((tag) => typeof tag === 'string')) throw malformed(link, 'a list of tags has none');
  return tags;
}

function referrersOf({ content }: Page, link: OriginLink): Referrer[] {
  const manifests = field(content, 'manifests');
  if (manifests === null) return [];
  if (!Array.isArray(manifests)) throw malformed(link, 'a list of referrers has none');
  return manifests.map((each: unknown) => {
    if (!isReferrer(each)) throw malformed(link, 'a referrer has no digest, size or media type');
    return each;
  });
}

function isReferrer(value: unknown): value is Referrer {
  const [digest, size, mediaType, artifactType] = ['digest', 'size', 'mediaType', 'artifactType'].map((name) => field(value, name));
  return (
    typeof digest === 'string' && isDigest(digest) && Number.isSafeInteger(size) && Number(size) >= 0 && typeof mediaType === 'string' &&
    (artifactType === undefined || typeof artifactType === 'string')
  );
}

/** At most `n` of the tags; `marker`: where the origin goes on. */
function cut(tags: readonly string[], n: number | undefined, marker: string | undefined): TagPage {
  if (n === undefined || tags.length <= n) return { tags, next: n === 0 ? undefined : marker };
  const some = tags.slice(0, n);
  return { tags: some, next: some.at(-1) };
}

/** Where the tags behind `last` begin, in the origin's order where `last` is a tag, else in the specification's. */
function indexAfter(tags: readonly string[], last: string): number {
  const at = tags.indexOf(last);
  if (at >= 0) return at + 1;
  const key = last.toLowerCase();
  const behind = tags.findIndex((tag) => tag.toLowerCase() > key);
  return behind < 0 ? tags.length : behind;
}

function malformed(link: OriginLink, what: string, cause?: unknown): AgentError {
  return new AgentError('ORIGIN_LISTING', `${link.entry.name}: ${what}`, { cause, detail: { origin: link.entry.name } });
}
