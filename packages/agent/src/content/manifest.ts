// What a manifest says: its type, and what it refers to. OCI image-spec 1.1 and Docker schema 2.

import { isDigest, type Digest } from '@flotilla/shared/digest';
import { AgentError } from '../errors.ts';

export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;

const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const DOCKER_SCHEMA1 = 'application/vnd.docker.distribution.manifest.v1+prettyjws';

export interface ManifestReference {
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: string;
  readonly kind: 'blob' | 'manifest';
}

export interface ParsedManifest {
  readonly mediaType: string;
  /** Everything it refers to and that lies in the same repository: configs, layers, child manifests. */
  readonly references: readonly ManifestReference[];
}

/**
 * Reads a manifest whose bytes were verified.
 * @param declared the media type that the origin or a descriptor gave; wins over what the bytes say
 * @throws AgentError MANIFEST_MALFORMED
 */
export function parseManifest(bytes: Uint8Array, declared: string | undefined): ParsedManifest {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (error) {
    throw new AgentError('MANIFEST_MALFORMED', 'the manifest is no JSON', { cause: error });
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new AgentError('MANIFEST_MALFORMED', 'the manifest is no JSON object');
  }
  const fields = json as Record<string, unknown>;
  return {
    mediaType: declared ?? ownMediaType(fields),
    references: [
      ...descriptors(fields['manifests'], 'manifest'),
      ...descriptors([fields['config']], 'blob'),
      ...descriptors(fields['layers'], 'blob'),
      // OCI artifact manifests (removed from the spec before 1.1, still found in registries)
      ...descriptors(fields['blobs'], 'blob'),
    ],
  };
}

/** Layers that are not in the registry but at URLs of their own (Windows base layers). */
export function isForeignLayer({ mediaType }: Pick<ManifestReference, 'mediaType'>): boolean {
  return mediaType.includes('nondistributable') || mediaType.includes('.foreign.');
}

/** `mediaType` may be absent in OCI documents (image-spec, "mediaType"): then the fields tell. */
function ownMediaType(fields: Record<string, unknown>): string {
  if (typeof fields['mediaType'] === 'string') return fields['mediaType'];
  if (fields['schemaVersion'] === 1) return DOCKER_SCHEMA1;
  return Array.isArray(fields['manifests']) ? OCI_INDEX : OCI_MANIFEST;
}

function descriptors(list: unknown, kind: 'blob' | 'manifest'): ManifestReference[] {
  if (!Array.isArray(list)) return [];
  const found: ManifestReference[] = [];
  for (const entry of list as unknown[]) {
    if (typeof entry !== 'object' || entry === null) continue;
    const { digest, size, mediaType } = entry as Record<string, unknown>;
    if (typeof digest !== 'string' || !isDigest(digest)) continue;
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) continue;
    found.push({ digest, size, mediaType: typeof mediaType === 'string' ? mediaType : 'application/octet-stream', kind });
  }
  return found;
}
