// What a verified session means to the exchange: which blobs each side has named, what was asked, how the peer does.
// Lives as long as its session. Bounds: MAX_INTERESTS blobs named by each side.

import type { BlobKey } from '@flotilla/shared/chunk-map';
import { Intake } from './intake.ts';
import type { Account } from './ledger.ts';
import type { Outbox } from './outbox.ts';

const FADE = 1.1;

/** A blob that the peer named, and its number for it. Kept also where this host knows nothing of the blob. */
export interface Interest {
  readonly channel: number;
  readonly key: BlobKey;
  readonly id: string;
}

/** What the exchange needs of the session with a peer. A PeerSession; without sockets in test/sim. */
export interface LinkSession {
  readonly peerId: string;
  readonly closed: boolean;
  /** Where the peer stands; undefined: it does not say. */
  readonly zone?: string | undefined;
  readonly outbox: Pick<Outbox, 'send' | 'later' | 'sendChunk' | 'dropChunk' | 'blockedMs'>;
  close(reason: Error): void;
}

/** What an Intake needs to know of a blob's state at this host. */
export interface FetchOwner {
  readonly channel: number;
}

export class Link<Owner extends FetchOwner, Session extends LinkSession = LinkSession> {
  readonly session: Session;
  readonly account: Account;
  readonly intake: Intake<Owner>;
  readonly sinceMs: number;
  /** By the peer's channel number, and by blob. */
  readonly interests = new Map<number, Interest>();
  readonly interestIn = new Map<string, Interest>();
  /** Blobs that were named to the peer. */
  readonly named = new Map<string, Owner>();
  /** When this side last left blobs that the peer had not named then, the newest last. */
  readonly leftAtMs = new Map<string, number>();
  /** No requests before: it stalled or said busy. */
  backoffUntilMs = 0;
  /** Whose turn it is when several blobs have something to ask. */
  turn = 0;
  #roundTripMs: number | undefined;

  /** @param openMs how long opening the stream took, where this side did */
  constructor(session: Session, account: Account, stray: (bytes: number) => void, sinceMs: number, openMs?: number) {
    this.session = session;
    this.account = account;
    this.intake = new Intake(stray);
    this.sinceMs = sinceMs;
    this.#roundTripMs = openMs;
  }

  get peerId(): string {
    return this.session.peerId;
  }

  get outbox(): Session['outbox'] {
    return this.session.outbox;
  }

  /** Best known round trip; undefined before the first measurement. */
  get roundTripMs(): number | undefined {
    return this.#roundTripMs;
  }

  /** A ping came back. Queues only make it longer, so the shortest counts; it fades, as routes change. */
  measured(roundTripMs: number): void {
    this.#roundTripMs = Math.min(roundTripMs, (this.#roundTripMs ?? roundTripMs) * FADE);
  }
}
