// What one blob's swarm at this host knows of zones: which of its peers stand apart, which chunks may be asked of those (imports.ts), and
// whether any has become so. Between BlobSwarm, which tells it what happens, and Picker, which obeys it.

import { importSalt, type ImportSeat } from '@flotilla/shared/import-seats';
import type { BlobKey } from '@flotilla/shared/chunk-map';
import { Imports } from './imports.ts';
import type { ImportGate } from './picker.ts';
import { apart, type Place } from './place.ts';

export interface ZoneGateInit {
  readonly place: Place;
  readonly key: BlobKey;
  readonly chunks: number;
  readonly nowMs: () => number;
  /** Where a peer that trades the blob stands; undefined: it does not say. */
  readonly zoneOf: (peerId: string) => string | undefined;
  /** Whether the chunk is on this host. */
  readonly has: (index: number) => boolean;
  /** See Picker.confine. */
  readonly confine: (index: number, confined: boolean) => void;
}

export class ZoneGate implements ImportGate {
  readonly #init: ZoneGateInit;
  readonly #imports: Imports;
  #opened = false;

  constructor(init: ZoneGateInit) {
    const { place, key, chunks, nowMs, has } = init;
    this.#init = init;
    this.#imports = new Imports(chunks, {
      selfId: place.selfId,
      salt: importSalt(key.digest),
      nowMs,
      has,
      changed: (index, confined) => {
        init.confine(index, confined);
        this.#opened ||= !confined;
      },
    });
  }

  isForeign(peerId: string): boolean {
    return apart(this.#init.place.zone, this.#init.zoneOf(peerId));
  }

  confined(index: number): boolean {
    return this.#imports.confined(index);
  }

  gained(index: number, foreign: boolean): void {
    this.#imports.gained(index, foreign);
  }

  lost(index: number, foreign: boolean): void {
    this.#imports.lost(index, foreign);
  }

  /** Peers that trade the blob, all of them. */
  peers(peerIds: Iterable<string>): void {
    this.#imports.mates([...peerIds].filter((peerId) => this.#init.zoneOf(peerId) === this.#init.place.zone));
  }

  told(seat: ImportSeat | undefined): void {
    this.#imports.told(seat);
  }

  /** A chunk came from a peer, `tookMs` after it was asked for. */
  arrived(peerId: string, index: number, tookMs: number): void {
    this.#imports.came(index, this.isForeign(peerId) ? tookMs : undefined);
  }

  /** Bytes came from a peer. */
  moved(): void {
    this.#imports.moved();
  }

  /** Chunks are here. */
  have(indexes: readonly number[]): void {
    for (const index of indexes) this.#imports.came(index);
  }

  /** Whether to ask this chunk of this peer is to step in for whoever should have brought it in. */
  stepsIn(peerId: string, index: number): boolean {
    return this.#imports.stepsIn(index) && this.isForeign(peerId);
  }

  tick(): void {
    this.#imports.tick();
  }

  /** Whether any chunk became open to peers of other zones since the last call. */
  takeOpened(): boolean {
    const opened = this.#opened;
    this.#opened = false;
    return opened;
  }
}
