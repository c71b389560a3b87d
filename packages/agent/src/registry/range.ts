// The Range header of RFC 9110, 14, for one blob of known size. Pure.
//
// What is no valid `bytes` range set is ignored, as the RFC asks, so that the client gets a whole 200. Two refusals are our own: more
// ranges than MAX_RANGES, and several ranges that together ask for more than the blob (overlaps, which only an attack needs): 400, upon
// which clients of multi-range halve their request or fall back to single ranges.

import type { ByteRange } from '@flotilla/shared/chunk-map';

/** podman asks for up to 1024 at a time. Bounds the work and the part headers of one request. */
export const MAX_RANGES = 2048;

export type RangeRequest =
  /** no Range, or one that is to be ignored */
  | { readonly kind: 'whole' }
  /** one range: a plain 206 */
  | { readonly kind: 'single'; readonly range: ByteRange }
  /** several were asked for (though one may remain): multipart/byteranges, in the order of the request */
  | { readonly kind: 'multiple'; readonly ranges: readonly ByteRange[] }
  /** nothing of it lies in the blob: 416 */
  | { readonly kind: 'unsatisfiable' }
  /** more than is reasonable: 400 */
  | { readonly kind: 'refused'; readonly reason: string };

const WHOLE: RangeRequest = { kind: 'whole' };

/** @param size of the blob in bytes */
export function parseRange(header: string | undefined, size: number): RangeRequest {
  // An empty blob has no range that a 206 could name; clients that send `bytes=0-` with everything get the whole nothing.
  if (header === undefined || size === 0) return WHOLE;
  const set = /^bytes\s*=(.*)$/is.exec(header.trim())?.[1];
  if (set === undefined) return WHOLE;
  const specs = set.split(',').map((spec) => spec.trim()).filter((spec) => spec !== '');
  if (specs.length === 0) return WHOLE;
  if (specs.length > MAX_RANGES) return { kind: 'refused', reason: `${specs.length} ranges, at most ${MAX_RANGES} are served` };

  const ranges: ByteRange[] = [];
  let total = 0;
  for (const spec of specs) {
    const range = parseSpec(spec, size);
    if (range === 'malformed') return WHOLE;
    if (range === 'outside') continue;
    ranges.push(range);
    total += range.end - range.start;
  }
  const [first] = ranges;
  if (first === undefined) return { kind: 'unsatisfiable' };
  if (specs.length === 1) return { kind: 'single', range: first };
  if (total > size) return { kind: 'refused', reason: `overlapping ranges ask for ${total} bytes of ${size}` };
  return { kind: 'multiple', ranges };
}

/** The value of Content-Range for a part. */
export function contentRange(range: ByteRange, size: number): string {
  return `bytes ${range.start}-${range.end - 1}/${size}`;
}

function parseSpec(spec: string, size: number): ByteRange | 'malformed' | 'outside' {
  const match = /^(\d*)-(\d*)$/.exec(spec);
  if (match === null) return 'malformed';
  const [, first = '', last = ''] = match;
  if (first === '') {
    if (last === '') return 'malformed';
    const length = Math.min(Number(last), size);
    return length === 0 ? 'outside' : { start: size - length, end: size };
  }
  const start = Number(first);
  const end = last === '' ? size : Math.min(Number(last) + 1, size);
  // `500-0` is invalid by the RFC's letter, but a full 200 would be a failure to the clients that probe with it.
  return start < end ? { start, end } : 'outside';
}
