// tags/list and referrers of a repository: always the origin's own answer, in the form that the specification asks for.
//
// Where the origin has no referrers API, the index that clients keep under a tag made of the digest takes its place ("referrers tag schema");
// where there is none either, the answer is an empty list and not 404, which clients would take for an endpoint without the API.
// Non-goals: pages of referrers; clients filter and read them whole.

import type { FastifyReply } from 'fastify';
import { digestAlgorithm, digestHex, type Digest } from '@flotilla/shared/digest';
import type { Content, Referrer, Repository } from '../content/ports.ts';
import { AgentError, toAgentError } from '../errors.ts';
import type { Call } from './call.ts';
import { listParameters } from './route.ts';

const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
const JSON_TYPE = 'application/json';

/** @param path the repository as the client wrote it @param url of the request */
export async function serveTags(content: Content, call: Call, reply: FastifyReply, repository: Repository, path: string, url: string): Promise<void> {
  const parameters = listParameters(url);
  const { n, last, ns } = parameters;
  const page = await content.tags(repository, { ...(n !== undefined && { n }), ...(last !== undefined && { last }) }, call.caller, call.signal);
  const complete = last === undefined && page.next === undefined;
  if (page.next !== undefined) {
    const query = new URLSearchParams({ ...(n !== undefined && { n: String(n) }), last: page.next, ...(ns !== undefined && { ns }) });
    void reply.header('link', `</v2/${path}/tags/list?${query.toString()}>; rel="next"`);
  }
  await send(call, reply, JSON_TYPE, { name: path, tags: complete ? sorted(page.tags) : page.tags });
}

/** @param url of the request */
export async function serveReferrers(content: Content, call: Call, reply: FastifyReply, repository: Repository, digest: Digest, url: string): Promise<void> {
  const { artifactType } = listParameters(url);
  const found = await content.referrers(repository, digest, call.caller, call.signal);
  const all = found.supported ? found.manifests : await taggedReferrers(content, call, repository, digest);
  if (artifactType !== undefined) void reply.header('oci-filters-applied', 'artifactType');
  const manifests = artifactType === undefined ? all : all.filter((referrer) => referrer.artifactType === artifactType);
  await send(call, reply, OCI_INDEX, { schemaVersion: 2, mediaType: OCI_INDEX, manifests });
}

/** What clients keep in the index of the tag `sha256-<hex>`. */
async function taggedReferrers(content: Content, call: Call, repository: Repository, digest: Digest): Promise<readonly Referrer[]> {
  const tag = `${digestAlgorithm(digest)}-${digestHex(digest).slice(0, 64)}`;
  try {
    const manifest = await content.manifest(repository, { tag }, [OCI_INDEX], call.caller, call.signal);
    const index: unknown = JSON.parse(Buffer.from(await manifest.bytes(call.signal)).toString('utf8'));
    const list = typeof index === 'object' && index !== null && 'manifests' in index ? index.manifests : undefined;
    return Array.isArray(list) ? list.filter(isReferrer) : [];
  } catch (error) {
    if (toAgentError(error).code === 'MANIFEST_UNKNOWN') return [];
    if (error instanceof SyntaxError) throw new AgentError('MANIFEST_MALFORMED', `the index of ${tag} is no JSON`, { cause: error });
    throw error;
  }
}

function isReferrer(value: unknown): value is Referrer {
  return typeof value === 'object' && value !== null && 'digest' in value && typeof value.digest === 'string' && 'mediaType' in value && typeof value.mediaType === 'string';
}

/**
 * In the order of the specification where the origin keeps none. A page is left as it came: the client goes on behind its last tag. So is a
 * list in the order of its bytes, which many registries keep.
 */
function sorted(tags: readonly string[]): readonly string[] {
  const isSorted = (compare: (a: string, b: string) => number): boolean => tags.every((tag, i) => i === 0 || compare(tags[i - 1]!, tag) <= 0);
  return isSorted(byBytes) || isSorted(byLetters) ? tags : tags.toSorted(byLetters);
}

/** Tags are ASCII. */
function byBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function byLetters(a: string, b: string): number {
  return byBytes(a.toLowerCase(), b.toLowerCase()) || byBytes(a, b);
}

async function send(call: Call, reply: FastifyReply, type: string, content: unknown): Promise<void> {
  const body = Buffer.from(JSON.stringify(content));
  void reply.headers({ 'content-type': type, 'content-length': String(body.length) });
  if (call.method === 'HEAD') {
    await reply.send();
    return;
  }
  call.bytes = body.length;
  await reply.send(body);
}
