// Bodies of answers, measured: what an origin says about lengths is checked against what it sends.

import type { OriginBody } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import type { Answer } from './connections.ts';
import { connectionError, type Place } from './failures.ts';

/** One value of a header; several fields are joined as RFC 9110 says. */
export function headerOf(answer: Pick<Answer, 'headers'>, name: string): string | undefined {
  const value = answer.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

/** Content-Length as a number; undefined when absent or no number. */
export function contentLength(answer: Pick<Answer, 'headers'>): number | undefined {
  const text = headerOf(answer, 'content-length');
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** `bytes a-b/total` as a half-open range; undefined when absent or not of this form. */
export function contentRange(answer: Pick<Answer, 'headers'>): { start: number; end: number; size: number | undefined } | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/i.exec(headerOf(answer, 'content-range')?.trim() ?? '');
  if (match === null) return undefined;
  const [start, last] = [Number(match[1]), Number(match[2])];
  const size = match[3] === '*' ? undefined : Number(match[3]);
  if (last < start || (size !== undefined && last >= size)) return undefined;
  return { start, end: last + 1, size };
}

/** Whether it was re-encoded on the way, although nobody asked for that. */
export function isEncoded(answer: Pick<Answer, 'headers'>): boolean {
  const coding = headerOf(answer, 'content-encoding')?.trim().toLowerCase() ?? '';
  return coding !== '' && coding !== 'identity';
}

/** Reads a body into memory. undefined: it is longer than `maxBytes`, and was cut. @throws AgentError, or the signal's reason */
export async function readWhole(answer: Answer, maxBytes: number, place: Place, signal: AbortSignal): Promise<Buffer | undefined> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of piecesOf(answer, place, signal)) {
    bytes += piece.length;
    if (bytes > maxBytes) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces, bytes);
}

/** Up to this much is read and dropped to keep the connection; a longer rest is cut. */
const MAX_DROPPED_BYTES = 64 * 1024;

/** Gives up an answer whose body nobody needs. */
export function discard(answer: Answer): void {
  // Settles with the end of the body, however that comes; nobody waits for it.
  void answer.body.dump({ limit: MAX_DROPPED_BYTES });
}

export interface BodyRules {
  readonly start: number;
  readonly size: number | undefined;
  readonly ranged: boolean;
  /** Exactly so many bytes must come, where that is known. */
  readonly expectedBytes: number | undefined;
  /** More are refused with `tooLong`. */
  readonly maxBytes: number;
  readonly tooLong: () => AgentError;
  readonly place: Place;
}

/** The body of an answer as the Origin port has it. `onBytes` is told of every piece; `onError` of what is thrown. */
export function originBody(
  answer: Answer,
  rules: BodyRules,
  onBytes: (bytes: number) => void,
  onError: (error: AgentError) => void,
  signal: AbortSignal,
): OriginBody {
  const { start, size, ranged } = rules;
  async function* measured(): AsyncGenerator<Uint8Array> {
    let bytes = 0;
    try {
      for await (const piece of piecesOf(answer, rules.place, signal)) {
        bytes += piece.length;
        onBytes(piece.length);
        if (bytes > rules.maxBytes) throw rules.tooLong();
        if (rules.expectedBytes !== undefined && bytes > rules.expectedBytes) throw lengthError(rules, bytes);
        yield piece;
      }
      if (rules.expectedBytes !== undefined && bytes !== rules.expectedBytes) throw lengthError(rules, bytes);
    } catch (error) {
      if (error instanceof AgentError) onError(error);
      throw error;
    }
  }
  return {
    start,
    size,
    ranged,
    body: measured(),
    cancel: () => {
      answer.body.destroy();
    },
  };
}

/** The pieces of a body; leaving the loop early cuts the connection. */
async function* piecesOf(answer: Answer, place: Place, signal: AbortSignal): AsyncGenerator<Buffer> {
  try {
    for await (const piece of answer.body) {
      yield piece as Buffer;
    }
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw connectionError(error, place, true);
  }
}

function lengthError({ place, expectedBytes }: BodyRules, bytes: number): AgentError {
  return new AgentError('ORIGIN_LENGTH', `${place.origin} sent ${bytes} bytes or more where it said ${expectedBytes}`, {
    detail: { origin: place.origin, host: place.url.host, expectedBytes, bytes },
  });
}
