// Entity tags. What is content-addressed has one strong tag for ever: its digest in quotes.

import type { Digest } from '@flotilla/shared/digest';

export function etagOf(digest: Digest): string {
  return `"${digest}"`;
}

/** Whether If-None-Match names this tag (weak comparison, RFC 9110, 13.1.2): answer 304. */
export function noneMatch(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  return header.split(',').some((tag) => {
    const trimmed = tag.trim();
    return trimmed === '*' || trimmed.replace(/^W\//, '') === etag;
  });
}

/** Whether a Range counts: no If-Range, or one with exactly this tag (strong comparison; dates never match). */
export function rangeStands(ifRange: string | undefined, etag: string): boolean {
  return ifRange === undefined || ifRange.trim() === etag;
}
