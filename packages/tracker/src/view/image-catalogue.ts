// Which blobs make an image and what it is called, as hosts tell it of the manifests that they were asked for. Durable.
//
// An image is the manifest of one platform; an index only gives its names to the manifests that it lists. What the fleet holds of an image is
// not here but in the swarms of its blobs. Bound: MAX_IMAGES manifests, the longest unused go; names per manifest MAX_NAMES.

import type { SeenManifest } from '@flotilla/shared/agent-report';
import type { Table } from '../state.ts';

const MAX_IMAGES = 20_000;
const MAX_NAMES = 16;
/** How exact the last use is known after a restart. */
const WRITE_USE_MS = 60_000;
/** A host that asked for a manifest counts as pulling the image for so long at most. */
const ASKED_MS = 60 * 60_000;

export interface ManifestRecord {
  readonly size: number;
  readonly mediaType: string;
  /** `origin/repository:tag`, or `origin/repository`; the latest first. */
  readonly names: readonly string[];
  readonly blobs: readonly { readonly digest: string; readonly size: number; readonly kind: 'blob' | 'manifest'; readonly platform?: string }[];
  readonly firstSeenMs: number;
  readonly usedAtMs: number;
}

export interface Image {
  readonly digest: string;
  /** Those that it is known by, through indexes as well. */
  readonly names: readonly string[];
  readonly platform: string | undefined;
  /** Config and layers, each once, with the manifest itself. */
  readonly blobs: readonly { readonly digest: string; readonly size: number; readonly mediaType: string }[];
  /** Of all of them. */
  readonly size: number;
  readonly firstSeenMs: number;
  readonly usedAtMs: number;
}

export class ImageCatalogue {
  readonly #table: Table<ManifestRecord>;
  readonly #written = new Map<string, number>();
  readonly #changes = new Map<string, ManifestRecord | undefined>();
  /** The longest unused first. */
  readonly #manifests: Map<string, ManifestRecord>;
  /** Images that a blob is part of. */
  readonly #byBlob = new Map<string, Set<string>>();
  /** Indexes that list a manifest. */
  readonly #parents = new Map<string, Set<string>>();
  /** Per image, who asked for it and when. Soft. */
  readonly #askers = new Map<string, Map<string, number>>();
  readonly #images = new Map<string, Image>();
  #version = 0;

  private constructor(table: Table<ManifestRecord>, manifests: Map<string, ManifestRecord>) {
    this.#table = table;
    this.#manifests = manifests;
    for (const [digest, record] of manifests) {
      this.#written.set(digest, record.usedAtMs);
      this.#link(digest, record);
    }
  }

  static async open(table: Table<ManifestRecord>): Promise<ImageCatalogue> {
    const known: [string, ManifestRecord][] = [];
    for await (const entry of table.entries()) known.push(entry);
    return new ImageCatalogue(table, new Map(known.sort(([, a], [, b]) => a.usedAtMs - b.usedAtMs)));
  }

  /** Another number after each change of an image, its names or its last use. */
  get version(): number {
    return this.#version;
  }

  /** A host was asked for this manifest. */
  seen(peerId: string, { digest, size, mediaType, origin, repository, tag, blobs }: SeenManifest, nowMs: number): void {
    this.#version++;
    const known = this.#manifests.get(digest);
    const name = origin === undefined || repository === undefined ? undefined : `${origin}/${repository}${tag === undefined ? '' : `:${tag}`}`;
    const names = mergeName(known?.names ?? [], name);
    const record: ManifestRecord = { size, mediaType, names, blobs: known?.blobs ?? blobs, firstSeenMs: known?.firstSeenMs ?? nowMs, usedAtMs: nowMs };
    this.#manifests.delete(digest);
    this.#manifests.set(digest, record);
    if (known === undefined || names.length !== known.names.length || names[0] !== known.names[0]) this.#forgetMade(digest, record);
    if (known === undefined) this.#link(digest, record);
    if (isImage(record)) this.#asked(digest, peerId, nowMs);
    if (known === undefined || names !== known.names || nowMs - (this.#written.get(digest) ?? 0) >= WRITE_USE_MS) this.#changes.set(digest, record);
    for (const oldest of this.#manifests.keys()) {
      if (this.#manifests.size <= MAX_IMAGES) break;
      this.#drop(oldest);
    }
  }

  /** A tag was pinned to it: hosts ask for it by digest, and tell the repository alone. Nothing where they have not told that. */
  named(digest: string, name: string): void {
    const known = this.#manifests.get(digest);
    if (known === undefined || !hasTag(name) || known.names.includes(name) || !known.names.includes(name.slice(0, name.lastIndexOf(':')))) return;
    this.#version++;
    const record = { ...known, names: mergeName(known.names, name) };
    this.#manifests.set(digest, record);
    this.#forgetMade(digest, record);
    this.#changes.set(digest, record);
  }

  /** Bytes of it moved, or it was served. */
  used(digest: string, nowMs: number): void {
    const known = this.#manifests.get(digest);
    if (known === undefined || nowMs - known.usedAtMs < 1_000) return;
    this.#version++;
    const record = { ...known, usedAtMs: nowMs };
    this.#manifests.delete(digest);
    this.#manifests.set(digest, record);
    this.#images.delete(digest);
    if (nowMs - (this.#written.get(digest) ?? 0) >= WRITE_USE_MS) this.#changes.set(digest, record);
  }

  get(digest: string): Image | undefined {
    const made = this.#images.get(digest);
    if (made !== undefined) return made;
    const record = this.#manifests.get(digest);
    if (record === undefined || !isImage(record)) return undefined;
    const image = this.#make(digest, record);
    this.#images.set(digest, image);
    return image;
  }

  /** The image itself, or those that an index lists and of which more is known. */
  resolve(digest: string): Image[] {
    const record = this.#manifests.get(digest);
    if (record === undefined) return [];
    if (isImage(record)) return [this.get(digest)!];
    return record.blobs.map((child) => this.get(child.digest)).filter((image) => image !== undefined);
  }

  /** All images, the latest used first. */
  *all(): Generator<Image> {
    for (const digest of [...this.#manifests.keys()].toReversed()) {
      const image = this.get(digest);
      if (image !== undefined) yield image;
    }
  }

  /** Images that this blob is part of, the manifest's own included. */
  of(blob: string): ReadonlySet<string> {
    return this.#byBlob.get(blob) ?? NONE;
  }

  /** A name for a blob: that of an image that it is part of. Empty: none is known. */
  nameOf(blob: string): string {
    for (const digest of this.of(blob)) {
      const name = this.get(digest)?.names[0];
      if (name !== undefined) return name;
    }
    return '';
  }

  /** Hosts that asked for the image within the last hour. */
  askers(digest: string): ReadonlyMap<string, number> {
    return this.#askers.get(digest) ?? NOBODY;
  }

  /** Writes what has changed. @returns undefined where nothing has */
  flush(nowMs: number): Promise<void> | undefined {
    for (const [digest, askers] of this.#askers) {
      for (const [peerId, atMs] of askers) if (nowMs - atMs >= ASKED_MS) askers.delete(peerId);
      if (askers.size === 0) this.#askers.delete(digest);
    }
    if (this.#changes.size === 0) return undefined;
    const changes = new Map(this.#changes);
    this.#changes.clear();
    for (const [digest, record] of changes) if (record !== undefined) this.#written.set(digest, record.usedAtMs);
    return this.#table.write(changes);
  }

  #make(digest: string, record: ManifestRecord): Image {
    let names = record.names;
    let platform: string | undefined;
    for (const parent of this.#parents.get(digest) ?? []) {
      const index = this.#manifests.get(parent);
      names = [...new Set([...(index?.names ?? []), ...names])];
      platform ??= index?.blobs.find((child) => child.digest === digest)?.platform;
    }
    // A name with a tag says more than the repository alone.
    names = [...names.filter(hasTag), ...names.filter((name) => !hasTag(name))].slice(0, MAX_NAMES);
    const blobs = new Map([[digest, { digest, size: record.size, mediaType: record.mediaType }]]);
    for (const blob of record.blobs) blobs.set(blob.digest, { digest: blob.digest, size: blob.size, mediaType: '' });
    const all = [...blobs.values()];
    return { digest, names, platform, blobs: all, size: all.reduce((sum, { size }) => sum + size, 0), firstSeenMs: record.firstSeenMs, usedAtMs: record.usedAtMs };
  }

  #link(digest: string, record: ManifestRecord): void {
    const image = isImage(record);
    if (image) addTo(this.#byBlob, digest, digest);
    for (const blob of record.blobs) addTo(image ? this.#byBlob : this.#parents, blob.digest, digest);
  }

  /** Names of an index are those of its children. */
  #forgetMade(digest: string, record: ManifestRecord): void {
    this.#images.delete(digest);
    if (!isImage(record)) for (const child of record.blobs) this.#images.delete(child.digest);
  }

  #asked(digest: string, peerId: string, nowMs: number): void {
    const askers = this.#askers.get(digest) ?? new Map<string, number>();
    askers.set(peerId, nowMs);
    this.#askers.set(digest, askers);
  }

  #drop(digest: string): void {
    const record = this.#manifests.get(digest)!;
    this.#manifests.delete(digest);
    this.#forgetMade(digest, record);
    this.#askers.delete(digest);
    this.#written.delete(digest);
    for (const { digest: blob } of [{ digest }, ...record.blobs]) {
      for (const index of [this.#byBlob, this.#parents]) {
        const of = index.get(blob);
        if (of?.delete(digest) === true && of.size === 0) index.delete(blob);
      }
    }
    this.#changes.set(digest, undefined);
  }
}

const NONE: ReadonlySet<string> = new Set();
const NOBODY: ReadonlyMap<string, number> = new Map();

/** An index lists manifests alone. */
function isImage({ blobs }: ManifestRecord): boolean {
  return blobs.length === 0 || blobs.some(({ kind }) => kind === 'blob');
}

function mergeName(names: readonly string[], name: string | undefined): readonly string[] {
  if (name === undefined || names[0] === name) return names;
  return [name, ...names.filter((known) => known !== name)].slice(0, MAX_NAMES);
}

/** A port has a slash behind it. */
function hasTag(name: string): boolean {
  return name.lastIndexOf(':') > name.lastIndexOf('/');
}

function addTo(index: Map<string, Set<string>>, key: string, value: string): void {
  const values = index.get(key);
  if (values === undefined) index.set(key, new Set([value]));
  else values.add(value);
}
