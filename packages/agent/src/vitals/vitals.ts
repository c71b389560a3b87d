// What is watched of this host while it works, and the report that is made of it. agent.ts puts the meters where things happen.

import { AsyncLocalStorage } from 'node:async_hooks';
import { performance } from 'node:perf_hooks';
import { memoryUsage, resourceUsage } from 'node:process';
import { MAX_SOURCES } from '@flotilla/shared/agent-report';
import type { EndedDownload } from '../content/downloads.ts';
import type { HandedManifest } from '../content/images.ts';
import { formatPlatform, indexEntries } from '../content/platform.ts';
import type { Caller, Content, Source } from '../content/ports.ts';
import { ERRORS, type AgentError } from '../errors.ts';
import { BusyMeter } from './busy-meter.ts';
import { LoopMeter } from './loop-meter.ts';
import { OriginFaults } from './origin-faults.ts';
import { Reporter, type ReporterSources } from './reporter.ts';
import { ToldOnce } from './told-once.ts';

const MARK_MS = 200;

export interface VitalsInit {
  /** Unix ms. */
  readonly now: () => number;
  /** Whether the tracker may hear an image's name. */
  readonly mayName: (secret: boolean) => boolean;
  /** For how long the loop has stood still on purpose, in ms (turn-rest.ts). */
  readonly restedMs: () => number;
}

export class Vitals {
  readonly disk = new BusyMeter(() => performance.now());
  readonly faults: OriginFaults;
  readonly #told: ToldOnce;
  readonly #init: VitalsInit;
  readonly #request = new AsyncLocalStorage<string>();
  readonly #loop: LoopMeter;
  readonly #marking: NodeJS.Timeout;
  #originBytes = 0;

  constructor(init: VitalsInit) {
    this.#init = init;
    this.#told = new ToldOnce(init.now);
    this.#loop = new LoopMeter(() => {
      const { active, idle } = performance.eventLoopUtilization();
      const restedMs = init.restedMs();
      // It stands still outside of the loop's own wait, which counts as work.
      return { active: active - restedMs, idle: idle + restedMs };
    });
    this.faults = new OriginFaults((error) => this.error(error));
    this.#marking = setInterval(() => this.#loop.mark(), MARK_MS).unref();
  }

  close(): void {
    clearInterval(this.#marking);
  }

  /** What the client at work calls its request. */
  readonly requestId = (): string | undefined => this.#request.getStore();

  /** Local clients' questions, as `content` answers them. */
  watch(content: Content): Content {
    const watched = this.faults.watchContent(content);
    const within = <T>(caller: Caller, ask: () => T): T => (caller.requestId === undefined ? ask() : this.#request.run(caller.requestId, ask));
    return {
      manifest: (repository, reference, accept, caller, signal) => within(caller, () => watched.manifest(repository, reference, accept, caller, signal)),
      blob: (repository, digest, caller, signal) => {
        if (caller.requestId !== undefined) this.#told.asked(digest, caller.requestId);
        return within(caller, () => watched.blob(repository, digest, caller, signal));
      },
      tags: (repository, page, caller, signal) => within(caller, () => watched.tags(repository, page, caller, signal)),
      referrers: (repository, digest, caller, signal) => within(caller, () => watched.referrers(repository, digest, caller, signal)),
    };
  }

  /** Payload came off an origin's wire. */
  readonly fromOrigin = (bytes: number): void => {
    this.#originBytes += bytes;
  };

  /** For who looks at the last errors. A message may name an image that the tracker is not to hear of: then the code says what it was. */
  error({ code, message }: Pick<AgentError, 'code' | 'message'>): void {
    this.#told.error(code, this.#init.mayName(true) ? message : ERRORS[code].help);
  }

  readonly manifest = ({ repository, private: secret, reference, digest, size, mediaType, bytes, references }: HandedManifest): void => {
    const platforms = new Map((indexEntries(bytes) ?? []).flatMap((entry) => (entry.platform === undefined ? [] : [[entry.digest, formatPlatform(entry.platform)] as const])));
    this.#told.manifest({ repository, digest, size, mediaType, ...('tag' in reference && { tag: reference.tag }), references, platforms, named: this.#init.mayName(secret) });
  };

  readonly ended = ({ key, source, startedMs, provenance, error }: EndedDownload): void => {
    const { peerBytes, originBytes, resumedBytes, duplicateBytes } = provenance.summary();
    this.#told.blob({
      digest: key.digest,
      size: key.size,
      ...this.#nameOf(source),
      startedAtMs: startedMs,
      endedAtMs: this.#init.now(),
      originBytes,
      resumedBytes,
      duplicateBytes,
      peerBytes,
      sources: provenance.sources(MAX_SOURCES),
      ...(error !== undefined && { error }),
    });
  };

  /** The report, of what is here and what only the agent knows. */
  reporter(sources: Pick<ReporterSources, 'totals' | 'downloads' | 'peers' | 'freeBytes' | 'uploadedBytes' | 'limits' | 'brakes'>): Reporter {
    return new Reporter({
      ...sources,
      originBytes: () => this.#originBytes,
      disk: this.disk,
      faults: this.faults,
      told: this.#told,
      now: () => performance.now(),
      wallClock: this.#init.now,
      loopShare: () => this.#loop.share(),
      cpuMs: () => {
        const { userCPUTime, systemCPUTime } = resourceUsage();
        return (userCPUTime + systemCPUTime) / 1000;
      },
      memoryBytes: () => memoryUsage.rss(),
    });
  }

  #nameOf({ origin, repository, private: secret = false }: Source): { origin?: string; repository?: string } {
    return this.#init.mayName(secret) ? { origin, repository } : {};
  }
}
