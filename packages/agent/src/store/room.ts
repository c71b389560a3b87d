// Who may take room on the disk: reservations, and what has to go for them. The decision itself is in eviction.ts, the
// figures in catalogue.ts and disk-space.ts; here they meet. One decision at a time, so that no two count on the same room.

import type { BlobKey } from '@flotilla/shared/chunk-map';
import { AgentError } from '../errors.ts';
import { MAX_FILES, STALE_PARTIAL_MS, costOnDisk, type Catalogue, type Held, type HeldPartial } from './catalogue.ts';
import type { DiskSpace } from './disk-space.ts';
import { NO_NEED, planEviction, type Need } from './eviction.ts';
import type { DataFile } from './open-files.ts';

export interface RoomLimits {
  /** @default a tenth of the file system */
  readonly limitBytes?: number | undefined;
  /** Share of the file system that stays free. @default 0.2 */
  readonly minFreeShare?: number | undefined;
}

export interface RoomComponents {
  readonly catalogue: Catalogue;
  readonly space: DiskSpace;
  readonly now: () => number;
  readonly busy: (file: DataFile) => boolean;
  /** Removes it from disk and catalogue. Never rejects. */
  readonly evict: (held: Held) => Promise<void>;
}

const DEFAULT_LIMIT_SHARE = 0.1;
const DEFAULT_MIN_FREE_SHARE = 0.2;

export class Room {
  readonly #with: RoomComponents;
  readonly #limits: RoomLimits;
  #deciding: Promise<unknown> = Promise.resolve();

  constructor(components: RoomComponents, limits: RoomLimits) {
    this.#with = components;
    this.#limits = limits;
  }

  get limitBytes(): number {
    return this.#limits.limitBytes ?? Math.floor(this.#with.space.last.totalBytes * DEFAULT_LIMIT_SHARE);
  }

  /**
   * Promises room for the whole blob to its partial, which counts as open from then on. What lies on disk of it already is
   * part of the promise.
   * @returns undefined where there is no room, whatever goes
   */
  reserve(key: BlobKey): Promise<HeldPartial | undefined> {
    return this.#decide(async () => {
      const { catalogue, now } = this.#with;
      const idle = catalogue.partial(key);
      const bytes = Math.max(costOnDisk(key.size), idle?.bytes ?? 0);
      const missingBytes = bytes - (idle?.bytes ?? 0);
      if (!(await this.#fit({ bytes: missingBytes, files: idle ? 0 : 1 }, key))) return undefined;
      const held: HeldPartial = { key, touchedMs: now(), open: true, bytes, promisedBytes: missingBytes };
      catalogue.addPartial(held);
      return held;
    });
  }

  /** Takes bytes out of a promise, as they are about to be written. @throws DISK_FULL where others have filled the disk */
  async claim(held: HeldPartial, bytes: number): Promise<void> {
    const { space } = this.#with;
    if (!(await this.#staysFree(bytes))) {
      await this.trim();
      if (!(await this.#staysFree(bytes))) {
        throw new AgentError('DISK_FULL', 'the file system has less free than must stay free', {
          detail: { freeBytes: space.last.freeBytes, minFreeBytes: this.#minFreeBytes },
        });
      }
    }
    space.took(bytes);
    held.promisedBytes = Math.max(0, held.promisedBytes - bytes);
  }

  /** Gives up what the limits ask for, should they have been overrun. */
  async trim(): Promise<void> {
    await this.#decide(() => this.#fit(NO_NEED));
  }

  get #minFreeBytes(): number {
    return Math.ceil(this.#with.space.last.totalBytes * (this.#limits.minFreeShare ?? DEFAULT_MIN_FREE_SHARE));
  }

  async #staysFree(bytes: number): Promise<boolean> {
    const { freeBytes } = await this.#with.space.current();
    return freeBytes - bytes >= this.#minFreeBytes;
  }

  async #fit(need: Need, wanted?: BlobKey): Promise<boolean> {
    const { catalogue, space, now, busy, evict } = this.#with;
    for (const partial of catalogue.stalePartials(now() - STALE_PARTIAL_MS)) {
      if (wanted === undefined || partial !== catalogue.partial(wanted)) await evict({ partial });
    }
    const { freeBytes } = await space.current();
    const { admitted, evict: victims } = planEviction(
      {
        usedBytes: catalogue.usedBytes,
        limitBytes: this.limitBytes,
        files: catalogue.files,
        maxFiles: MAX_FILES,
        freeBytes,
        minFreeBytes: this.#minFreeBytes,
        promisedBytes: catalogue.promisedBytes,
      },
      need,
      catalogue.candidates(busy, wanted),
    );
    for (const victim of victims) await evict(victim);
    return admitted;
  }

  #decide<T>(decision: () => Promise<T>): Promise<T> {
    const decided = this.#deciding.then(decision);
    this.#deciding = decided.catch(() => undefined);
    return decided;
  }
}
