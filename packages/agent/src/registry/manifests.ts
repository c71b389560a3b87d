// GET and HEAD of a manifest, by tag or digest.

import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Reference } from '@flotilla/shared/reference';
import type { Content, Repository } from '../content/ports.ts';
import type { Call } from './call.ts';
import { etagOf, noneMatch } from './etag.ts';

/** More media types than this in one Accept are cut off; real clients send six. */
const MAX_ACCEPT = 64;

export async function serveManifest(
  content: Content,
  call: Call,
  request: FastifyRequest,
  reply: FastifyReply,
  repository: Repository,
  reference: Reference,
): Promise<void> {
  const manifest = await content.manifest(repository, reference, acceptedTypes(request.headers.accept), call.caller, call.signal);
  const { digest, size, mediaType } = manifest.descriptor;
  const etag = etagOf(digest);
  void reply.headers({ 'docker-content-digest': digest, etag });
  if (manifest.stale) void reply.header('warning', '110 - "Response is Stale"');
  if (noneMatch(request.headers['if-none-match'], etag)) {
    await reply.code(304).send();
    return;
  }
  void reply.header('content-type', mediaType);
  if (call.method === 'HEAD') {
    await reply.header('content-length', String(size)).send();
    return;
  }
  const bytes = await manifest.bytes(call.signal);
  call.bytes = bytes.length;
  await reply.header('content-length', String(bytes.length)).send(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
}

/** The media ranges of Accept in the client's order, parameters kept: the origin may choose by them. */
export function acceptedTypes(header: string | undefined): string[] {
  if (header === undefined) return [];
  return header.split(',').map((type) => type.trim()).filter((type) => type !== '').slice(0, MAX_ACCEPT);
}
