// The images that somebody pulls now, or did a moment ago, each with its progress.
//
// Bounds: MAX_PROGRESSES at once; one that nobody pulls is kept for KEEP_MS, so that its chart can still be looked at.

import type { ActiveImage } from '@flotilla/shared/live-api';
import type { Swarm } from '../swarm.ts';
import type { Hosts } from './hosts.ts';
import type { Image, ImageCatalogue } from './image-catalogue.ts';
import { ImageProgress } from './image-progress.ts';

const KEEP_MS = 10 * 60_000;
const MAX_PROGRESSES = 50;
const MAX_TOLD = 20;

export interface ActiveImagesSources {
  readonly hosts: Hosts;
  readonly catalogue: ImageCatalogue;
  readonly swarms: {
    find(digest: string, size: number): Swarm | undefined;
    findDigest(digest: string): Swarm | undefined;
    fetched(): Iterable<Swarm>;
  };
}

export class ActiveImages {
  readonly #from: ActiveImagesSources;
  readonly #kept = new Map<string, { readonly progress: ImageProgress; workedAtMs: number }>();

  constructor(from: ActiveImagesSources) {
    this.#from = from;
  }

  /** Each second. */
  look(nowMs: number): void {
    const { catalogue, swarms } = this.#from;
    for (const swarm of swarms.fetched()) {
      for (const digest of catalogue.of(swarm.blob.digest)) {
        if (this.#kept.size >= MAX_PROGRESSES || this.#kept.has(digest) || catalogue.askers(digest).size === 0) continue;
        const image = catalogue.get(digest);
        if (image !== undefined) this.#progressOf(image, nowMs);
      }
    }
    for (const [digest, kept] of this.#kept) {
      kept.progress.tick(nowMs);
      if (kept.progress.atWork > 0) kept.workedAtMs = nowMs;
      else if (nowMs - kept.workedAtMs >= KEEP_MS) this.#kept.delete(digest);
    }
  }

  /** Most hosts at work first. */
  told(): ActiveImage[] {
    const images: { readonly atWork: number; readonly told: ActiveImage }[] = [];
    for (const { progress } of this.#kept.values()) {
      const { atWork, image, now } = progress;
      if (atWork === 0) continue;
      const { digest, names, size } = image;
      images.push({ atWork, told: { digest, name: names[0] ?? '', size, ...progress.begun, share: now.share, rate: now.rate, ...(now.timeLeftMs !== undefined && { timeLeftMs: now.timeLeftMs }) } });
    }
    return images
      .sort((a, b) => b.atWork - a.atWork)
      .slice(0, MAX_TOLD)
      .map(({ told }) => told);
  }

  /** The image of a manifest; of an index the one that is asked for most; any other blob as an image of its own. */
  imageOf(digest: string): Image | undefined {
    const { catalogue, swarms } = this.#from;
    const [image] = catalogue.resolve(digest).sort((a, b) => catalogue.askers(b.digest).size - catalogue.askers(a.digest).size);
    if (image !== undefined) return image;
    const blob = swarms.findDigest(digest)?.blob;
    return blob && { digest, names: [], platform: undefined, blobs: [{ digest, size: blob.size, mediaType: '' }], size: blob.size, firstSeenMs: 0, usedAtMs: 0 };
  }

  /** How far every host is with it; kept up to date from now on. undefined: nobody has told of it, and nobody holds it */
  progressOf(digest: string, nowMs: number): ImageProgress | undefined {
    const image = this.imageOf(digest);
    return image && this.#progressOf(image, nowMs);
  }

  #progressOf(image: Image, nowMs: number): ImageProgress {
    const { hosts, catalogue, swarms } = this.#from;
    const { digest } = image;
    const known = this.#kept.get(digest);
    if (known !== undefined) {
      known.workedAtMs = Math.max(known.workedAtMs, nowMs - KEEP_MS / 2);
      return known.progress;
    }
    const progress = new ImageProgress(() => catalogue.get(digest) ?? image, { hosts, find: (blob, size) => swarms.find(blob, size), askers: () => catalogue.askers(digest) });
    progress.tick(nowMs);
    this.#kept.set(digest, { progress, workedAtMs: nowMs });
    return progress;
  }
}
