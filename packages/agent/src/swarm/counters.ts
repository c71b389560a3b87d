// What the swarm counts; agent.ts hands in where the counts go.

export type SwarmCounter =
  /** chunk bytes sent, and chunk bytes that came and were kept */
  | 'uploaded_bytes'
  | 'kept_bytes'
  /** of what came from peers, wanted or not, and of what was sent: from and to peers of other zones */
  | 'zone_in_bytes'
  | 'zone_out_bytes'
  /** whole chunks that were here already, or not wanted any more */
  | 'duplicate_bytes'
  /** pieces that were not asked for, or whose request had been cancelled */
  | 'stray_bytes'
  | 'forged_chunks'
  | 'conflict_chunks'
  | 'requests'
  | 'duplicate_requests'
  | 'stalled_requests'
  /** asked across zones in place of whoever should have brought the chunk in */
  | 'stand_in_requests'
  | 'busy_answers'
  | 'failed_reads'
  | 'sessions_opened'
  | 'sessions_closed'
  | 'refused_peers'
  | 'protocol_faults'
  /** peers whose release is too far from this one, and frames of newer peers that were passed over */
  | 'foreign_versions'
  | 'skipped_frames'
  | 'slow_peers'
  | 'failed_dials';

export interface SwarmCounters {
  add(counter: SwarmCounter, amount: number): void;
}

/** The part of pino that is used here. */
export interface SwarmLog {
  debug(fields: Record<string, unknown>, message: string): void;
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
}
