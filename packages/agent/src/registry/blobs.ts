// GET and HEAD of a blob: whole, one range, or several. The bytes go out as they are: never encoded, whatever Accept-Encoding says.
//
// Invariant: the headers go out only after the first verified bytes are here; after that the reply is either complete or visibly broken.

import { pipeline } from 'node:stream/promises';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Digest } from '@flotilla/shared/digest';
import type { Content, Repository } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import type { Call } from './call.ts';
import { etagOf, noneMatch, rangeStands } from './etag.ts';
import { multipartBody } from './multipart.ts';
import { contentRange, parseRange } from './range.ts';

const BLOB_TYPE = 'application/octet-stream';

export async function serveBlob(
  content: Content,
  call: Call,
  request: FastifyRequest,
  reply: FastifyReply,
  repository: Repository,
  digest: Digest,
): Promise<void> {
  const blob = await content.blob(repository, digest, call.caller, call.signal);
  const { size } = blob.key;
  const etag = etagOf(digest);
  const { range: rangeHeader, 'if-none-match': ifNoneMatch } = request.headers;
  const ifRange = request.headers['if-range']?.toString();
  const common = { 'docker-content-digest': digest, etag, 'accept-ranges': 'bytes' };

  if (noneMatch(ifNoneMatch, etag)) {
    await reply.code(304).headers(common).send();
    return;
  }
  const whole = { ...common, 'content-type': BLOB_TYPE, 'content-length': String(size) };
  if (call.method === 'HEAD') {
    // Range has no meaning for HEAD (RFC 9110, 14.2).
    await reply.headers(whole).send();
    return;
  }

  const asked = parseRange(rangeStands(ifRange, etag) ? rangeHeader : undefined, size);
  switch (asked.kind) {
    case 'whole':
      return stream(call, reply, 200, whole, size, await blob.open({ start: 0, end: size }, call.signal));
    case 'single': {
      const { range } = asked;
      const length = range.end - range.start;
      const headers = { ...whole, 'content-length': String(length), 'content-range': contentRange(range, size) };
      return stream(call, reply, 206, headers, length, await blob.open([range], call.signal));
    }
    case 'multiple': {
      const { contentType, contentLength, read } = multipartBody(asked.ranges, size, BLOB_TYPE);
      const headers = { ...common, 'content-type': contentType, 'content-length': String(contentLength) };
      return stream(call, reply, 206, headers, contentLength, read(await blob.open(asked.ranges, call.signal)));
    }
    case 'unsatisfiable':
      void reply.headers({ 'accept-ranges': 'bytes', 'content-range': `bytes */${size}` });
      throw new AgentError('RANGE_INVALID', `the blob has ${size} bytes`, { detail: { size } });
    case 'refused':
      throw new AgentError('RANGES_REFUSED', asked.reason);
  }
}

/** Sends headers and body with back-pressure. On failure the connection is gone before this returns. */
async function stream(
  call: Call,
  reply: FastifyReply,
  status: number,
  headers: Record<string, string>,
  length: number,
  body: AsyncIterable<Uint8Array>,
): Promise<void> {
  reply.hijack();
  call.raw.writeHead(status, { ...(reply.getHeaders() as Record<string, string>), ...headers });
  try {
    await pipeline(counted(call, exactly(length, body)), call.raw);
  } catch (error) {
    call.failed(error);
  }
}

async function* counted(call: Call, body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    for await (const piece of body) {
      call.bytes += piece.length;
      yield piece;
    }
  } catch (error) {
    // Here and not after the pipeline: by then the connection is cut, and it would look as if the client had left.
    call.failed(error);
    throw error;
  }
}

/**
 * Passes the pieces on if they are `length` bytes in all; HTTP itself would end a short body without a word. The last piece waits until
 * the source has ended, so that a source that fails at its very end still breaks the reply.
 */
async function* exactly(length: number, pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let rest = length;
  let last: Uint8Array | undefined;
  for await (const piece of pieces) {
    rest -= piece.length;
    if (rest < 0) throw new AgentError('INTERNAL', `a body of ${length} bytes has at least ${-rest} more`);
    if (piece.length === 0) continue;
    if (rest === 0) last = piece;
    else yield piece;
  }
  if (rest > 0) throw new AgentError('INTERNAL', `a body of ${length} bytes lacks ${rest}`);
  if (last !== undefined) yield last;
}
