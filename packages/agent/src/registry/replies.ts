// The one place where a failure becomes a reply: the row of errors.ts gives status and OCI code.

import type { FastifyReply } from 'fastify';
import { ociErrorBody } from '@flotilla/shared/oci-error';
import { toAgentError, type AgentError } from '../errors.ts';

/** Status, headers and body of a failure, as the OCI distribution-spec writes them. */
export interface ErrorReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** What the agent answers to every method but GET and HEAD. */
export const ALLOWED_METHODS = 'GET, HEAD';

export function errorReply(error: AgentError): ErrorReply {
  const { row, code, detail, retryAfterMs } = error;
  // What went wrong inside is for the log; a client gets the code to look it up by.
  const message = code === 'INTERNAL' ? 'internal error' : error.message;
  const body = Buffer.from(JSON.stringify(ociErrorBody(row.oci, message, { code, help: row.help, ...(code !== 'INTERNAL' && detail) })));
  return {
    status: row.status,
    headers: {
      'content-type': 'application/json; charset=utf-8',
      'content-length': String(body.length),
      ...(retryAfterMs !== undefined && { 'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1000))) }),
      ...(code === 'UNSUPPORTED' && { allow: ALLOWED_METHODS }),
      ...(row.status === 401 && { 'www-authenticate': 'Basic realm="flotilla"' }),
    },
    body,
  };
}

/** Answers with the failure, or cuts the connection where a reply has begun. @returns body bytes sent */
export function sendError(reply: FastifyReply, method: string, error: unknown): number {
  if (reply.raw.headersSent) {
    reply.raw.destroy();
    return 0;
  }
  const { status, headers, body } = errorReply(toAgentError(error));
  reply.code(status).headers(headers);
  if (method === 'HEAD') {
    void reply.send();
    return 0;
  }
  void reply.send(body);
  return body.length;
}
