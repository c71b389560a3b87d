// The origins as the tracker asks them: by the agents' own registry client (docs/decisions/0010), without credentials, and only those that are built in
// or that its operator has named (config-origins.ts). Loaded where a setting wants it.
//
// Invariants: a member cannot lead the tracker anywhere: it names an origin and says where it would ask itself, and is answered only where the
// tracker's own settings say the same. Nothing is asked with a credential, and what the origin shows to nobody is `not-public`.

import { toAgentError, type AgentError } from '@flotilla/agent/errors';
import { createOrigin, type OriginClient, type OriginConfig } from '@flotilla/agent/origin/client';
import { isDigest, parseDigest } from '@flotilla/shared/digest';
import type { ResolveRequest, ResolveResponse } from '@flotilla/shared/tracker-api';
import type { Logger } from './log.ts';
import { TRACKER_VERSION } from './version.ts';

/** Longer than agents wait: who asks a moment later is helped by what comes late. */
const TIMEOUT_MS = 10_000;
const ANYBODY = { kind: 'anonymous' } as const;
const NOT_PUBLIC: ReadonlySet<string> = new Set(['ORIGIN_UNAUTHORIZED', 'ORIGIN_DENIED', 'MANIFEST_UNKNOWN', 'BLOB_UNKNOWN', 'REPOSITORY_UNKNOWN']);
const NOT_CONFIGURED: ReadonlySet<string> = new Set(['NAME_UNKNOWN', 'NAME_INVALID', 'TAG_INVALID', 'ORIGIN_FORBIDDEN']);

export class PublicOrigin {
  readonly #client: OriginClient;
  readonly #log: Logger;

  /** @param onRequest told of each request that went out @throws AgentError CONFIG_INVALID */
  constructor(config: OriginConfig, log: Logger, onRequest: (kind: string, status: number | string) => void) {
    this.#log = log;
    this.#client = createOrigin({ ...config, unlisted: 'refuse' }, {
      metrics: { originRequest: onRequest, originBytes: () => undefined, originFault: () => undefined, fallback: () => undefined },
      userAgent: `flotilla-tracker/${TRACKER_VERSION}`,
    });
  }

  /** Never rejects. */
  async ask({ origin, urls, repository, kind, reference, accept = [] }: ResolveRequest): Promise<ResolveResponse> {
    const own = this.#client.urlsOf(origin);
    if (own === undefined || own.join(' ') !== urls.join(' ')) return { why: 'not-configured' };
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    try {
      const place = { origin, repository };
      if (kind === 'manifest') {
        const { digest, size, mediaType } = await this.#client.resolve(place, reference, accept, ANYBODY, signal);
        return { found: { digest, size, mediaType } };
      }
      if (!isDigest(reference)) return { why: 'failed' };
      const digest = parseDigest(reference);
      const { size } = await this.#client.stat(place, digest, ANYBODY, signal);
      return { found: { digest, size, mediaType: 'application/octet-stream' } };
    } catch (error) {
      return { why: this.#reasonOf(origin, toAgentError(error)) };
    }
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  #reasonOf(origin: string, error: AgentError): string {
    if (NOT_PUBLIC.has(error.code)) return 'not-public';
    if (NOT_CONFIGURED.has(error.code)) return 'not-configured';
    // Its message may name an image.
    this.#log.warn({ origin, code: error.code, systemCode: error.detail?.['systemCode'] }, 'an origin gave no answer for the fleet');
    return 'failed';
  }
}
