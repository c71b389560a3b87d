// Which manifest of an index a host runs: the rules of the OCI image-spec's `platform`, as clients apply them. Pure.

import { arch, platform as system } from 'node:process';
import { isDigest, type Digest } from '@flotilla/shared/digest';
import { AgentError } from '../errors.ts';

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  /** Of arm: v5 to v8; of amd64: v1 to v4. */
  readonly variant?: string | undefined;
}

export interface IndexEntry {
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: string;
  readonly platform: Platform | undefined;
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le', loong64: 'loong64' };
/** What each variant runs, best first. '' stands for an entry that names none. */
const RUNS: Readonly<Record<string, readonly string[]>> = {
  'arm/': ['v7', 'v6', 'v5', ''],
  'arm/v8': ['v8', 'v7', 'v6', 'v5', ''],
  'arm/v7': ['v7', 'v6', 'v5', ''],
  'arm/v6': ['v6', 'v5', ''],
  'arm/v5': ['v5', ''],
  'arm64/': ['', 'v8'],
  'arm64/v8': ['v8', ''],
  'amd64/': ['', 'v1'],
  'amd64/v1': ['v1', ''],
  'amd64/v2': ['v2', 'v1', ''],
  'amd64/v3': ['v3', 'v2', 'v1', ''],
  'amd64/v4': ['v4', 'v3', 'v2', 'v1', ''],
};
/** Configs that say what platform an image is for. */
const CONFIGS: ReadonlySet<string> = new Set(['application/vnd.oci.image.config.v1+json', 'application/vnd.docker.container.image.v1+json']);
const MAX_CONFIG_BYTES = 4 * 1024 * 1024;
const PART = /^[a-z0-9][a-z0-9._-]{0,31}$/;

/** Of this machine. Images of other systems than Linux's are pulled only where they are named. */
export const HOST_PLATFORM: Platform = { os: system === 'win32' ? 'windows' : 'linux', architecture: ARCHITECTURES[arch] ?? arch };

/** `os/architecture[/variant]`. @returns undefined where it is none */
export function parsePlatform(text: string): Platform | undefined {
  const [os = '', architecture = '', variant, ...rest] = text.toLowerCase().split('/');
  if (rest.length > 0 || ![os, architecture, ...(variant === undefined ? [] : [variant])].every((part) => PART.test(part))) return undefined;
  return { os, architecture, variant };
}

export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, ...(variant === undefined || variant === '' ? [] : [variant])].join('/');
}

/** The entry for this platform. @throws AgentError PLATFORM_UNKNOWN that names those that are there */
export function choose(entries: readonly IndexEntry[], wanted: Platform): IndexEntry {
  const same = entries.filter(({ platform }) => platform?.os === wanted.os && platform.architecture === wanted.architecture);
  const variants = RUNS[`${wanted.architecture}/${wanted.variant ?? ''}`] ?? [wanted.variant ?? ''];
  for (const variant of variants) {
    const found = same.find(({ platform }) => (platform?.variant ?? '') === variant);
    if (found !== undefined) return found;
  }
  // Attestations and the like stand under the platform "unknown".
  const there = [...new Set(entries.flatMap(({ platform }) => (platform === undefined || platform.os === 'unknown' ? [] : [formatPlatform(platform)])))];
  throw new AgentError('PLATFORM_UNKNOWN', `the image is not there for ${formatPlatform(wanted)}, only for ${there.slice(0, 12).join(', ') || 'no platform that is named'}`);
}

/** The entries of an index, or undefined where the manifest is none. @param bytes of a manifest whose digest was verified, JSON */
export function indexEntries(bytes: Uint8Array): IndexEntry[] | undefined {
  const { manifests } = JSON.parse(Buffer.from(bytes).toString('utf8')) as { manifests?: unknown };
  if (!Array.isArray(manifests)) return undefined;
  return (manifests as unknown[]).flatMap((entry) => {
    const { digest, size, mediaType, platform } = (entry ?? {}) as Record<string, unknown>;
    if (typeof digest !== 'string' || !isDigest(digest) || typeof size !== 'number') return [];
    return [{ digest, size, mediaType: typeof mediaType === 'string' ? mediaType : '', platform: platformOf(platform) }];
  });
}

/** The config that says what platform an image is for; undefined: what is no image has none. @param references of its manifest */
export function platformConfig<T extends Pick<IndexEntry, 'mediaType' | 'size'>>(references: readonly T[]): T | undefined {
  return references.find(({ mediaType, size }) => CONFIGS.has(mediaType) && size <= MAX_CONFIG_BYTES);
}

/** Of an image without an index. @param config verified @throws AgentError PLATFORM_UNKNOWN, MANIFEST_MALFORMED */
export function checkPlatform(manifest: Digest, config: Uint8Array, wanted: Platform): void {
  const platform = configPlatform(config);
  if (platform !== undefined) choose([{ digest: manifest, size: 0, mediaType: '', platform }], wanted);
}

/** The platform that an image's config names, if it does. @param bytes verified */
export function configPlatform(bytes: Uint8Array): Platform | undefined {
  try {
    return platformOf(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (error) {
    throw new AgentError('MANIFEST_MALFORMED', "the image's config is no JSON", { cause: error });
  }
}

function platformOf(value: unknown): Platform | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { os, architecture, variant } = value as Record<string, unknown>;
  if (typeof os !== 'string' || typeof architecture !== 'string') return undefined;
  return { os, architecture, variant: typeof variant === 'string' && variant !== '' ? variant : undefined };
}
