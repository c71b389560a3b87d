// The routes for agents: CA, enrolment, session, messages, locate, resolve (shared/tracker-api.ts has the contract).
//
// A post of a session: body as text -> JSON -> MAC and number (preValidation) -> schema -> fleet.take. Nothing of a batch counts
// before its MAC does; kinds of messages that only a newer agent knows are passed over, and counted. The session's response is the one thing that is written past fastify: it has no end.

import type { ServerResponse } from 'node:http';
import {
  AGENT_MESSAGE_TYPES,
  EnrollRequest,
  EnrollResponse,
  LocateRequest,
  LocateResponse,
  MAC_HEADER,
  MAX_BATCH_BYTES,
  MessageBatch,
  ResolveRequest,
  ResolveResponse,
  ROUTES,
  SEQUENCE_HEADER,
  SessionRequest,
} from '@flotilla/shared/tracker-api';
import type { FastifyRequest } from 'fastify';
import { TrackerError } from './errors.ts';
import type { Fleet } from './fleet.ts';
import type { PublicAnswers } from './public-answers.ts';
import type { App } from './server.ts';
import type { EventStream, Session } from './sessions.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** The body as it came, for its MAC. */
    bodyText: string;
    /** Set once a post of a session is proven to be one; `repeated`: it was taken before. */
    proven: { readonly session: Session; readonly repeated: boolean } | undefined;
  }
}

/** Enrolments from one address and minute: a fleet behind one address may start as a whole, a guesser gets nowhere. */
const MAX_ENROLMENTS_PER_MINUTE = 6000;
const MAX_ENROLMENT_BYTES = 16 * 1024;

export interface AgentRoutesInit {
  readonly caPem: string | undefined;
  /** undefined: origins are not asked for the fleet, and there is no such route. */
  readonly answers: PublicAnswers | undefined;
  /** Told how many messages of kinds that this release does not know were passed over. */
  readonly onIgnored: (messages: number) => void;
}

export function agentRoutes(app: App, fleet: Fleet, { caPem, answers, onIgnored }: AgentRoutesInit): void {
  app.decorateRequest('bodyText', '');
  app.decorateRequest('proven', undefined);
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, done) => {
    request.bodyText = body;
    void parse(request, body, done);
  });

  app.get(ROUTES.ca, (_request, reply) => {
    if (caPem === undefined) throw new TrackerError('CA_NONE', 'no CA');
    return reply.type('text/plain; charset=utf-8').send(caPem);
  });

  app.post(
    ROUTES.enroll,
    { bodyLimit: MAX_ENROLMENT_BYTES, config: { rateLimit: { max: MAX_ENROLMENTS_PER_MINUTE, timeWindow: 60_000 } }, schema: { body: EnrollRequest, response: { 200: EnrollResponse } } },
    (request) => fleet.enroll(request.body),
  );

  app.post(ROUTES.session, { bodyLimit: MAX_ENROLMENT_BYTES, schema: { body: SessionRequest } }, (request, reply) => {
    fleet.authenticate(request.body);
    reply.hijack();
    const { raw } = reply;
    raw.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
    raw.socket?.setKeepAlive(true, 30_000);
    const session = fleet.openSession(request.body, streamTo(raw));
    raw.on('close', () => fleet.sessions.streamClosed(session));
    // Writing to a stream that breaks is how it is noticed; `close` follows.
    raw.on('error', (error) => request.log.debug({ error, peerId: session.peerId }, 'stream broke'));
    if (raw.destroyed) fleet.sessions.streamClosed(session);
  });

  app.post<{ Params: { id: string } }>(
    ROUTES.messages(':id').replace('%3A', ':'),
    {
      bodyLimit: MAX_BATCH_BYTES,
      schema: { body: MessageBatch },
      preValidation: (request, _reply, done) => {
        request.proven = fleet.sessions.accept(sessionId(request), sequenceOf(request), macOf(request), request.bodyText, fleet.now());
        passOverUnknown(request, onIgnored);
        done();
      },
    },
    (request, reply) => {
      const { session, repeated } = request.proven!;
      if (!repeated) fleet.take(session, (request.body as MessageBatch).messages);
      return reply.code(204).send();
    },
  );

  app.post<{ Params: { id: string } }>(
    ROUTES.locate(':id').replace('%3A', ':'),
    {
      bodyLimit: MAX_ENROLMENT_BYTES,
      schema: { body: LocateRequest, response: { 200: LocateResponse } },
      preValidation: (request, _reply, done) => {
        fleet.sessions.acceptQuestion(sessionId(request), sequenceOf(request), macOf(request), request.bodyText);
        done();
      },
    },
    (request) => fleet.locate(request.body as LocateRequest),
  );

  if (answers === undefined) return;
  app.post<{ Params: { id: string } }>(
    ROUTES.resolve(':id').replace('%3A', ':'),
    {
      bodyLimit: MAX_ENROLMENT_BYTES,
      schema: { body: ResolveRequest, response: { 200: ResolveResponse } },
      preValidation: (request, _reply, done) => {
        fleet.sessions.acceptQuestion(sessionId(request), sequenceOf(request), macOf(request), request.bodyText);
        done();
      },
    },
    (request) => answers.resolve(request.body as ResolveRequest),
  );
}

/** A newer agent may say more: what is of no kind known here is taken out of the batch. What is of no kind at all stays, and is refused. */
function passOverUnknown(request: FastifyRequest, onIgnored: (messages: number) => void): void {
  const { messages } = (request.body ?? {}) as { messages?: unknown };
  if (!Array.isArray(messages)) return;
  const known = messages.filter((message: unknown) => {
    const type = typeof message === 'object' && message !== null && 'type' in message ? message.type : undefined;
    return typeof type !== 'string' || AGENT_MESSAGE_TYPES.has(type);
  });
  if (known.length === messages.length) return;
  onIgnored(messages.length - known.length);
  request.body = { messages: known };
}

function streamTo(raw: ServerResponse): EventStream {
  return {
    get queuedBytes() {
      return raw.writableLength;
    },
    write: (text) => {
      raw.write(text);
    },
    end: () => {
      raw.destroy();
    },
  };
}

function sessionId(request: FastifyRequest): string {
  return (request.params as { id: string }).id;
}

function macOf(request: FastifyRequest): string {
  const mac = request.headers[MAC_HEADER];
  if (typeof mac !== 'string') throw new TrackerError('MAC_WRONG', `${MAC_HEADER} is missing`);
  return mac;
}

function sequenceOf(request: FastifyRequest): number {
  const text = request.headers[SEQUENCE_HEADER];
  if (typeof text !== 'string' || !/^\d{1,15}$/.test(text)) throw new TrackerError('SEQUENCE_WRONG', `${SEQUENCE_HEADER} is no number`);
  return Number(text);
}
