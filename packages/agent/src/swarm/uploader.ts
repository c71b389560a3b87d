// Serves requests: a slot, then the chunk from the blob's holding, then its pieces into the peer's outbox.
// Who gets a slot when: uploads.ts. Invariant: a chunk's bytes are in memory only while its job has a slot or is parked.

import type { BlobKey } from '@flotilla/shared/chunk-map';
import { release } from '../chunk-memory.ts';
import type { BlobLink, BlobSwarm } from './blob-swarm.ts';
import type { SwarmCounters, SwarmLog } from './counters.ts';
import type { OutgoingChunk } from './outbox.ts';
import { Uploads, type GivesWay } from './uploads.ts';

/** After a read that failed, or a request for what is not here. */
const NOT_HERE_RETRY_MS = 1_000;
/** While uploads are stopped: peers look elsewhere, and come back now and then. */
const STOPPED_RETRY_MS = 5_000;

interface Job {
  readonly peerId: string;
  readonly bytes: number;
  readonly link: BlobLink;
  readonly blob: BlobSwarm;
  readonly index: number;
  /** Read, and used until the job ends. */
  chunk: Uint8Array | undefined;
  outgoing: OutgoingChunk | undefined;
  ended: boolean;
}

export interface UploaderComponents {
  readonly counters: SwarmCounters;
  readonly log: SwarmLog;
  readonly nowMs: () => number;
  /** It stands in another zone. */
  readonly isForeign: (link: BlobLink) => boolean;
  /** Which blobs give way to what clients of this host wait for; undefined: nobody waits. */
  readonly givesWay: () => ((key: BlobKey) => boolean) | undefined;
  /** The blob's bytes could not be read. */
  readonly unreadable: (blob: BlobSwarm) => void;
}

export class Uploader {
  readonly #with: UploaderComponents;
  readonly #uploads = new Uploads<Job>();
  readonly #jobs = new Map<BlobLink, Job[]>();
  #stopped = false;

  constructor(components: UploaderComponents) {
    this.#with = components;
  }

  get status(): { active: number; queued: number; slots: number; bytesPerSecond: number } {
    const { active, queued, slots, rate } = this.#uploads;
    return { active, queued, slots, bytesPerSecond: Math.round(rate) };
  }

  get busy(): boolean {
    return this.#uploads.active > 0;
  }

  /** Nothing is sent any more, or again: chunks that have begun go out to their end. */
  stop(stopped: boolean): void {
    this.#stopped = stopped;
    if (!stopped) return;
    for (const job of [...this.#jobs.values()].flat()) {
      if (job.outgoing !== undefined) continue;
      this.#refuse(job);
      this.#end(job);
    }
  }

  /** A peer asked for a chunk of a blob that it trades with us. */
  request(link: BlobLink, blob: BlobSwarm, index: number): void {
    const nowMs = this.#with.nowMs();
    if (!blob.holding.have.has(index)) {
      blob.correct(link);
      link.outbox.send({ type: 'busy', channel: blob.channel, index, retryAfterMs: NOT_HERE_RETRY_MS });
      return;
    }
    if (this.#stopped) {
      this.#refuse({ link, blob, index });
      return;
    }
    const jobs = this.#jobs.get(link) ?? [];
    if (jobs.some((job) => job.blob === blob && job.index === index)) return;
    const job: Job = { peerId: link.peerId, bytes: blob.bytesOf(index), link, blob, index, chunk: undefined, outgoing: undefined, ended: false };
    const offer = this.#uploads.offer(job, nowMs, this.#givesWay());
    if (typeof offer === 'object') {
      link.outbox.send({ type: 'busy', channel: blob.channel, index, retryAfterMs: offer.busyMs });
      return;
    }
    jobs.push(job);
    this.#jobs.set(link, jobs);
    if (offer === 'started') this.#run(job);
    // It may pass by what gives way.
    else this.#startWaiting();
  }

  /** The peer took its request back. */
  cancel(link: BlobLink, blob: BlobSwarm, index: number): void {
    const job = this.#jobs.get(link)?.find((each) => each.blob === blob && each.index === index);
    if (job !== undefined) this.#end(job);
  }

  /** Nothing of this blob is sent to the peer any more; of no blob where none is given. */
  drop(link: BlobLink, blob?: BlobSwarm): void {
    for (const job of this.#jobs.get(link)?.filter((each) => blob === undefined || each.blob === blob) ?? []) this.#end(job);
  }

  tick(): void {
    this.#uploads.tick(this.#with.nowMs());
    this.#startWaiting();
  }

  #refuse({ link, blob, index }: Pick<Job, 'link' | 'blob' | 'index'>): void {
    link.outbox.send({ type: 'busy', channel: blob.channel, index, retryAfterMs: STOPPED_RETRY_MS });
  }

  #run(job: Job): void {
    job.blob.holding.readChunk(job.index).then(
      (bytes) => this.#send(job, bytes),
      (error: unknown) => this.#unreadable(job, error),
    );
  }

  #send(job: Job, bytes: Uint8Array): void {
    if (job.ended) {
      release(bytes);
      return;
    }
    job.chunk = bytes;
    const { link, blob, index } = job;
    const digest = blob.holding.digestOf(index);
    if (digest === undefined || bytes.length !== job.bytes) {
      this.#unreadable(job, new RangeError(`${bytes.length} bytes read of a chunk of ${job.bytes}`));
      return;
    }
    job.outgoing = {
      channel: blob.channel,
      index,
      digest,
      bytes,
      moved: (count) => {
        const nowMs = this.#with.nowMs();
        this.#uploads.moved(job, count, nowMs);
        link.account.sent(count, nowMs);
        blob.moved(link.peerId, 'up', count, nowMs);
        this.#with.counters.add('uploaded_bytes', count);
        if (this.#with.isForeign(link)) this.#with.counters.add('zone_out_bytes', count);
      },
      done: () => this.#end(job),
    };
    link.outbox.sendChunk(job.outgoing);
  }

  #unreadable(job: Job, error: unknown): void {
    if (job.ended) return;
    const { link, blob, index } = job;
    this.#with.counters.add('failed_reads', 1);
    this.#with.log.warn({ digest: blob.key.digest, chunk: index, err: error }, 'chunk could not be read for a peer');
    link.outbox.send({ type: 'busy', channel: blob.channel, index, retryAfterMs: NOT_HERE_RETRY_MS });
    this.#end(job);
    this.#with.unreadable(blob);
  }

  #end(job: Job): void {
    if (job.ended) return;
    job.ended = true;
    if (job.outgoing !== undefined) job.link.outbox.dropChunk(job.outgoing);
    if (job.chunk !== undefined) release(job.chunk);
    this.#uploads.end(job);
    const jobs = this.#jobs.get(job.link)?.filter((each) => each !== job) ?? [];
    if (jobs.length === 0) this.#jobs.delete(job.link);
    else this.#jobs.set(job.link, jobs);
    this.#startWaiting();
  }

  #givesWay(): GivesWay<Job> | undefined {
    const ofBlob = this.#with.givesWay();
    return ofBlob && ((job) => ofBlob(job.blob.key));
  }

  #startWaiting(): void {
    const nowMs = this.#with.nowMs();
    const givesWay = this.#givesWay();
    for (let job = this.#uploads.next(nowMs, givesWay); job !== undefined; job = this.#uploads.next(nowMs, givesWay)) this.#run(job);
  }
}
