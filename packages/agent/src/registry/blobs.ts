// GET and HEAD of a blob: whole, one range, or several. The bytes go out as they are: never encoded, whatever Accept-Encoding says.
//
// Invariant: the headers go out only after the first verified bytes are here; after that the reply is either complete or visibly broken.

import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Digest } from '@flotilla/shared/digest';
import type { Content, Repository } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import { sendBody } from './body.ts';
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
      return stream(call, reply, 200, whole, size, await blob.open({ start: 0, end: size }, call.signal, call.served));
    case 'single': {
      const { range } = asked;
      const length = range.end - range.start;
      const headers = { ...whole, 'content-length': String(length), 'content-range': contentRange(range, size) };
      return stream(call, reply, 206, headers, length, await blob.open([range], call.signal, call.served));
    }
    case 'multiple': {
      const { contentType, contentLength, read } = multipartBody(asked.ranges, size, BLOB_TYPE);
      const headers = { ...common, 'content-type': contentType, 'content-length': String(contentLength) };
      return stream(call, reply, 206, headers, contentLength, read(await blob.open(asked.ranges, call.signal, call.served)));
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
    await sendBody(call.raw, length, body, (bytes) => {
      call.bytes += bytes;
    });
  } catch (error) {
    // Before the connection is cut: after it, it would look as if the client had left.
    call.failed(error);
    call.raw.destroy();
  }
}
