// The body of a 206 with several ranges: multipart/byteranges (RFC 9110, 14.6), its length known before its first byte.

import { randomBytes } from 'node:crypto';
import type { ByteRange } from '@flotilla/shared/chunk-map';
import { contentRange } from './range.ts';

export interface MultipartBody {
  readonly contentType: string;
  readonly contentLength: number;
  /** @param open reads one range; called for one part after the other */
  readonly read: (open: (range: ByteRange) => AsyncIterable<Uint8Array>) => AsyncGenerator<Uint8Array>;
}

/** @param partType media type of each part */
export function multipartBody(ranges: readonly ByteRange[], size: number, partType: string): MultipartBody {
  const boundary = randomBytes(18).toString('base64url');
  const heads = ranges.map((range, i) =>
    Buffer.from(
      `${i === 0 ? '' : '\r\n'}--${boundary}\r\ncontent-type: ${partType}\r\ncontent-range: ${contentRange(range, size)}\r\n\r\n`,
    ),
  );
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`);
  const bytes = ranges.reduce((sum, { start, end }) => sum + end - start, 0);
  return {
    contentType: `multipart/byteranges; boundary=${boundary}`,
    contentLength: heads.reduce((sum, head) => sum + head.length, tail.length + bytes),
    async *read(open) {
      for (const [i, range] of ranges.entries()) {
        yield heads[i]!;
        yield* open(range);
      }
      yield tail;
    },
  };
}
