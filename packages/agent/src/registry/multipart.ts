// The body of a 206 with several ranges: multipart/byteranges (RFC 9110, 14.6), its length known before its first byte.
// One part for each range that was asked for, in that order, adjacent ones too: clients count the parts.

import { randomBytes } from 'node:crypto';
import type { ByteRange } from '@flotilla/shared/chunk-map';
import { contentRange } from './range.ts';

export interface MultipartBody {
  readonly contentType: string;
  readonly contentLength: number;
  /** @param content the bytes of all ranges one after the other, in pieces of any size */
  readonly read: (content: AsyncIterable<Uint8Array>) => AsyncGenerator<Uint8Array>;
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
    async *read(content) {
      let part = -1;
      let rest = 0;
      for await (let piece of content) {
        while (piece.length > 0) {
          if (rest === 0) {
            const range = ranges[++part];
            // The length was said: whoever sends this on finds that it is wrong.
            if (range === undefined) {
              yield piece;
              break;
            }
            yield heads[part]!;
            rest = range.end - range.start;
          }
          const some = piece.subarray(0, rest);
          rest -= some.length;
          piece = piece.subarray(some.length);
          yield some;
        }
      }
      yield tail;
    },
  };
}
