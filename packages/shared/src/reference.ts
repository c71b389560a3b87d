// Names of images: repository and tag grammar of the OCI distribution-spec 1.1, and the full
// name a person types (`docker.io/library/nginx:1.27@sha256:...`).
// Which origin a name belongs to is the agent's decision, not this file's.

import { isDigest, type Digest } from './digest.ts';

const REPOSITORY = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/;
/** An origin's NAME or a DNS host, with a port where there is one. */
const ORIGIN = /^[a-z0-9]+([._-]+[a-z0-9]+)*(:\d{1,5})?$/;
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;

/** Origin names and DNS hosts are at most this long with the repository (distribution's limit). */
const MAX_NAME_LENGTH = 255;

/** A tag, or the digest of the manifest itself. */
export type Reference = { readonly tag: string } | { readonly digest: Digest };

/** A full image name, split; `origin` is the first component, not yet looked up. */
export interface ImageName {
  readonly origin: string;
  readonly repository: string;
  readonly reference: Reference;
}

/** The text breaks the name, tag or digest grammar; `code` is the OCI code for it. */
export class InvalidReferenceError extends Error {
  readonly code: 'NAME_INVALID' | 'MANIFEST_INVALID' | 'DIGEST_INVALID';
  constructor(code: InvalidReferenceError['code'], message: string) {
    super(message);
    this.name = 'InvalidReferenceError';
    this.code = code;
  }
}

export function isRepository(text: string): boolean {
  return text.length <= MAX_NAME_LENGTH && REPOSITORY.test(text);
}

export function isTag(text: string): boolean {
  return TAG.test(text);
}

/**
 * A reference as it stands in a URL: whatever has a colon is meant as a digest.
 * @throws InvalidReferenceError
 */
export function parseReference(text: string): Reference {
  if (text.includes(':')) {
    if (!isDigest(text)) {
      throw new InvalidReferenceError('DIGEST_INVALID', `"${text.slice(0, 160)}" is not a digest`);
    }
    return { digest: text };
  }
  if (!isTag(text)) {
    throw new InvalidReferenceError('MANIFEST_INVALID', `"${text.slice(0, 160)}" is not a tag`);
  }
  return { tag: text };
}

export function formatReference(reference: Reference): string {
  return 'tag' in reference ? reference.tag : reference.digest;
}

/**
 * A name as a person types it: `origin/repository[:tag][@digest]`; without both, the tag is `latest`.
 * A digest wins over a tag. The origin is required: Flotilla does not guess a registry.
 * @param unnamed stands for the origin of a name of one component, as `nginx:1.27`; without it there is none such
 * @throws InvalidReferenceError
 */
export function parseImageName(text: string, unnamed?: string): ImageName {
  const [, origin = unnamed, rest, digest] = /^(?:([^/@]+)\/)?([^@]+)(?:@(.*))?$/.exec(text) ?? [];
  if (origin === undefined || rest === undefined || (origin !== unnamed && !ORIGIN.test(origin))) {
    throw new InvalidReferenceError('NAME_INVALID', `"${text.slice(0, 160)}" names no origin; write it in full, such as docker.io/library/nginx:1.27`);
  }
  const [, repository = rest, tag] = /^([^:]*):(.*)$/.exec(rest) ?? [];
  if (!isRepository(repository)) {
    throw new InvalidReferenceError('NAME_INVALID', `"${repository.slice(0, 160)}" is not a repository name`);
  }
  if (tag !== undefined && !isTag(tag)) throw new InvalidReferenceError('MANIFEST_INVALID', `"${tag.slice(0, 160)}" is not a tag`);
  if (digest === undefined) return { origin, repository, reference: { tag: tag ?? 'latest' } };
  if (!isDigest(digest)) throw new InvalidReferenceError('DIGEST_INVALID', `"${digest.slice(0, 160)}" is not a digest`);
  return { origin, repository, reference: { digest } };
}
