// Whether an origin has the bytes that it says it has: it is made to send some of them, and they are compared with what would be served.
//
// The bytes of a digest may be here, or at a peer, because somebody read them in a private repository. An origin that nobody has
// configured, which anybody can run, could claim that digest for a repository of its own and so have the agent hand it out. Origins that
// the operator has named are believed.

import { chunkSize } from '@flotilla/shared/chunk-map';
import { AgentError } from '../errors.ts';
import type { Authority, ByteRange, Origin, ServedBlob, Source } from './ports.ts';

const SAMPLE_BYTES = 16 * 1024;

/**
 * @param place from 0 to 1: where the sample lies; nobody else may know it before, and asking again must not move it
 * @throws AgentError ACCESS_UNPROVEN, and what the origin answers
 */
export async function provePossession(origin: Origin, source: Source, authority: Authority, blob: ServedBlob, place: number, signal: AbortSignal): Promise<void> {
  const { digest, size } = blob.key;
  if (size === 0) return;
  const range = sampleOf(size, place);
  // Not both at once: the download's own reading comes first, the origin may allow one connection only.
  const served = await collect(await blob.open(range, signal), range.end - range.start);
  const answer = await origin.read(source, digest, range, authority, signal);
  try {
    const sent = await collect(answer.body, range.end - answer.start);
    if (served.equals(sent.subarray(range.start - answer.start))) return;
  } finally {
    answer.cancel();
  }
  throw new AgentError('ACCESS_UNPROVEN', `${source.origin} says that it has ${digest}, but its bytes are others`, { detail: { origin: source.origin, repository: source.repository } });
}

/** Inside the first chunk, which a reader waits for in any case. */
function sampleOf(size: number, place: number): ByteRange {
  const within = Math.min(size, chunkSize(size));
  const length = Math.min(within, SAMPLE_BYTES);
  const start = Math.floor(place * (within - length + 1));
  return { start, end: start + length };
}

/** The first `length` bytes, or fewer where there are no more. */
async function collect(pieces: AsyncIterable<Uint8Array>, length: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of pieces) {
    // A piece is lent until the next one is asked for.
    parts.push(Uint8Array.from(piece));
    bytes += piece.length;
    if (bytes >= length) break;
  }
  return Buffer.concat(parts).subarray(0, length);
}
