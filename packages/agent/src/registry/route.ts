// What a request URL asks for. Pure: the router of the HTTP library is not asked, because repository names contain slashes and may
// contain components called `blobs` or `manifests`; the last two components decide.
//
// Not done here: which origin a repository belongs to, and anything that depends on the Host header (nothing ever does).

import { parseDigest, InvalidDigestError, type Digest } from '@flotilla/shared/digest';
import { InvalidReferenceError, isRepository, parseReference, type Reference } from '@flotilla/shared/reference';
import { AgentError } from '../errors.ts';

/** What is asked for. `path` is the repository as the client wrote it, its origin not yet looked up. */
export type Target =
  | { readonly kind: 'base' }
  | { readonly kind: 'manifest'; readonly path: string; readonly reference: Reference }
  | { readonly kind: 'blob'; readonly path: string; readonly digest: Digest }
  | { readonly kind: 'tags'; readonly path: string }
  | { readonly kind: 'referrers'; readonly path: string; readonly digest: Digest };

export type TargetKind = Target['kind'];

const MAX_CURSOR_CHARS = 1024;

/** What a list is narrowed by; what is absent or empty is undefined. */
export interface ListParameters {
  readonly n: number | undefined;
  readonly last: string | undefined;
  readonly artifactType: string | undefined;
  readonly ns: string | undefined;
}

/** A host with an optional port, or an origin's NAME; also what may stand in a header. */
const NAMESPACE = /^[A-Za-z0-9._:[\]-]{1,255}$/;

/** The `ns` of containerd's mirror requests; undefined when absent or empty. @throws AgentError NAME_INVALID */
export function parseNamespace(url: string): string | undefined {
  const ns = parameter(queryOf(url), 'ns');
  if (ns === undefined) return undefined;
  if (!NAMESPACE.test(ns)) throw new AgentError('NAME_INVALID', `ns "${shown(ns)}" is no host and no origin's name`);
  return ns;
}

/** @throws AgentError PAGE_INVALID, NAME_INVALID */
export function listParameters(url: string): ListParameters {
  const query = queryOf(url);
  const n = parameter(query, 'n');
  if (n !== undefined && !/^\d{1,9}$/.test(n)) throw new AgentError('PAGE_INVALID', `n=${shown(n)} is no number of tags`);
  const last = parameter(query, 'last');
  // Media types have no blanks: a `+` that was not escaped.
  const artifactType = parameter(query, 'artifactType')?.replaceAll(' ', '+');
  // Origins have cursors of their own, which come back as `last`.
  if (last !== undefined && last.length > MAX_CURSOR_CHARS) throw new AgentError('PAGE_INVALID', `last=${shown(last)}... is too long`);
  return { n: n === undefined ? undefined : Number(n), last, artifactType, ns: parseNamespace(url) };
}

function queryOf(url: string): URLSearchParams {
  const query = url.indexOf('?');
  return new URLSearchParams(query < 0 ? '' : url.slice(query + 1));
}

function parameter(query: URLSearchParams, name: string): string | undefined {
  return query.get(name) || undefined;
}

/** @throws AgentError NAME_INVALID, DIGEST_INVALID, TAG_INVALID, ROUTE_UNKNOWN */
export function parseTarget(url: string): Target {
  const path = decodedPath(url);
  if (path === '/v2' || path === '/v2/') return { kind: 'base' };
  if (!path.startsWith('/v2/')) throw new AgentError('ROUTE_UNKNOWN', `nothing is served at ${shown(path)}`);
  const parts = path.slice('/v2/'.length).split('/');
  const last = parts.pop() ?? '';
  const resource = parts.pop();
  const name = parts.join('/');
  switch (resource) {
    case 'manifests':
      return { kind: 'manifest', path: repositoryPath(name), reference: readReference(last) };
    case 'blobs':
      return { kind: 'blob', path: repositoryPath(name), digest: readDigest(last) };
    case 'referrers':
      return { kind: 'referrers', path: repositoryPath(name), digest: readDigest(last) };
    case 'tags':
      if (last === 'list') return { kind: 'tags', path: repositoryPath(name) };
      break;
    default:
  }
  throw new AgentError('ROUTE_UNKNOWN', `nothing is served at ${shown(path)}`);
}

/** The path without query, fragment, or the scheme and host of an absolute-form request (RFC 9112, 3.2.2). */
function decodedPath(url: string): string {
  const encoded = url.replace(/^https?:\/\/[^/?#]*/i, '').replace(/[?#].*$/s, '');
  try {
    return decodeURIComponent(encoded);
  } catch (error) {
    throw new AgentError('NAME_INVALID', `"${shown(encoded)}" is not percent-encoded UTF-8`, { cause: error });
  }
}

function repositoryPath(name: string): string {
  if (!isRepository(name)) throw new AgentError('NAME_INVALID', `"${shown(name)}" is not a repository name`);
  return name;
}

function readReference(text: string): Reference {
  try {
    return parseReference(text);
  } catch (error) {
    if (!(error instanceof InvalidReferenceError)) throw error;
    throw new AgentError(error.code === 'DIGEST_INVALID' ? 'DIGEST_INVALID' : 'TAG_INVALID', error.message, { cause: error });
  }
}

function readDigest(text: string): Digest {
  try {
    return parseDigest(text);
  } catch (error) {
    if (!(error instanceof InvalidDigestError)) throw error;
    throw new AgentError('DIGEST_INVALID', error.message, { cause: error });
  }
}

function shown(text: string): string {
  return text.slice(0, 160);
}
