// Why a session with a peer ended or never began. These never reach a client: a pull goes on with other peers.

/** What the other side did, or what happened to the way to it. */
export type PeerFaultCode =
  /** it broke the exchange protocol: the stream is aborted */
  | 'PEER_PROTOCOL'
  /** its release is too old or too new for this one */
  | 'PEER_VERSION'
  /** its membership was not accepted */
  | 'PEER_REFUSED'
  /** expelled, in quarantine, or caught forging: no connection until the ban ends */
  | 'PEER_BANNED'
  /** it reads slower than its own requests and our announcements need, beyond what we queue for one peer */
  | 'PEER_SLOW'
  /** no hello in time, or nothing moved for too long */
  | 'PEER_TIMEOUT'
  /** the stream or connection went away */
  | 'PEER_LOST'
  /** another session with the same peer stays, or this side closes */
  | 'PEER_CLOSED';

/** A session's end, with the reason. */
export class PeerFault extends Error {
  readonly code: PeerFaultCode;
  constructor(code: PeerFaultCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'PeerFault';
    this.code = code;
  }
}
