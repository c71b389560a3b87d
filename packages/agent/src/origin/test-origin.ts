// For tests: a client whose only origin is `lab` at given URLs, with short times, a clock that the test moves, and counts.

import { createHash } from 'node:crypto';
import { parseDigest, type Digest } from '@flotilla/shared/digest';
import type { Authority } from '../content/ports.ts';
import { createOrigin, type OriginClient, type OriginConfig, type OriginDeps } from './client.ts';
import type { CredentialSource, Secret } from './credentials/secret.ts';
import type { OriginSettings } from './origins.ts';

export const AGENT: Authority = { kind: 'agent' };
export const ANONYMOUS: Authority = { kind: 'anonymous' };
export const LAB = { origin: 'lab', repository: 'team/app' };
export const LAB_BLOB = { ...LAB, kind: 'blob' as const };
export const LAB_MANIFEST = { ...LAB, kind: 'manifest' as const, mediaType: 'application/vnd.oci.image.manifest.v1+json' };

/** The same secret for everything, or none. */
export function alwaysCredentials(secret: Secret | undefined): CredentialSource {
  return { find: async () => ({ secret, from: 'a test', failure: undefined }), refused: () => undefined };
}

export interface TestOrigin extends AsyncDisposable {
  readonly client: OriginClient;
  readonly clock: { nowMs: number };
  readonly counts: { bytes: number; readonly requests: string[]; readonly faults: string[]; readonly fallbacks: string[] };
  /** Aborts nothing unless the test says so. */
  readonly signal: AbortSignal;
  readonly abort: (reason: Error) => void;
}

export function testOrigin(
  urls: readonly string[],
  { settings, config, deps }: { settings?: Partial<OriginSettings>; config?: Partial<OriginConfig>; deps?: Partial<OriginDeps> } = {},
): TestOrigin {
  const clock = { nowMs: 1_000_000 };
  const counts = { bytes: 0, requests: [] as string[], faults: [] as string[], fallbacks: [] as string[] };
  const controller = new AbortController();
  const client = createOrigin(
    { origins: [{ name: 'lab', urls, ...settings }], backoffMs: 1, ...config },
    {
      metrics: {
        originBytes: (bytes) => (counts.bytes += bytes),
        originRequest: (kind, status) => void counts.requests.push(`${kind} ${status}`),
        originFault: (code) => void counts.faults.push(code),
        fallback: (kind) => void counts.fallbacks.push(kind),
      },
      nowMs: () => clock.nowMs,
      random: () => 0.5,
      ...deps,
    },
  );
  return {
    client,
    clock,
    counts,
    signal: controller.signal,
    abort: (reason) => controller.abort(reason),
    [Symbol.asyncDispose]: () => client.close(),
  };
}

export function sha256(bytes: string | Uint8Array): Digest {
  return parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`);
}

/** All bytes of a body. */
export async function bytesOf({ body }: { body: AsyncIterable<Uint8Array> }): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of body) pieces.push(piece);
  return Buffer.concat(pieces);
}
