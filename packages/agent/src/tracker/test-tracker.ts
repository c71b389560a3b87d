// A small tracker for tests: speaks the contract on a real socket, checks every signature, MAC and sequence number as the
// contract says, and lets the test say what it sends and when it fails. It decides nothing.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { publicKeyFromProtobuf } from '@libp2p/crypto/keys';
import { peerIdFromPublicKey } from '@libp2p/peer-id';
import { enrolmentMac, enrolmentText, sameMac, type JoinToken } from '@flotilla/shared/join-token';
import { signMembership } from '@flotilla/shared/membership';
import {
  EnrollRequest,
  LocateRequest,
  MAC_HEADER,
  MessageBatch,
  messageMac,
  SEQUENCE_HEADER,
  SessionRequest,
  sessionText,
  type AgentMessage,
  type LocateResponse,
  type TrackerEvent,
} from '@flotilla/shared/tracker-api';
import { Compile } from 'typebox/compile';

const checkEnroll = Compile(EnrollRequest);
const checkSession = Compile(SessionRequest);
const checkBatch = Compile(MessageBatch);
const checkLocate = Compile(LocateRequest);

/** One session of one agent, as the tracker sees it. */
export class TestSession {
  readonly id = randomBytes(9).toString('base64url');
  readonly key = randomBytes(32);
  readonly request: SessionRequest;
  readonly messages: AgentMessage[] = [];
  /** How many messages came with each post. */
  readonly batches: number[] = [];
  sequence = 0;
  readonly #response: ServerResponse;

  constructor(request: SessionRequest, response: ServerResponse) {
    this.request = request;
    this.#response = response;
  }

  send(...events: (TrackerEvent | Record<string, unknown>)[]): void {
    this.#response.write(events.map((event) => `${JSON.stringify(event)}\n`).join(''));
  }

  raw(text: string): void {
    this.#response.write(text);
  }

  end(): void {
    this.#response.end();
  }

  /** As a crash does it. */
  cut(): void {
    this.#response.destroy();
  }
}

export class TestTracker {
  readonly token: JoinToken;
  readonly sessions: TestSession[] = [];
  readonly requests: string[] = [];
  enrolled = 0;
  epoch = 7;
  heartbeatMs = 30_000;
  /** Taken by the next posts, one each: what they are answered instead. */
  readonly refusePosts: number[] = [];
  /** Posts wait for this before they are answered. */
  gate: Promise<void> = Promise.resolve();
  /** Forgets whom it enrolled, as after the loss of its state. */
  readonly members = new Map<string, Uint8Array>();
  found: LocateResponse['found'];
  readonly #fleet = generateKeyPairSync('ed25519');
  readonly #server: Server;
  readonly #ca: string | undefined;
  readonly #waiting = new Set<() => void>();

  /** @param tls absent: plain HTTP */
  constructor(token: JoinToken, tls?: { cert: string; key: string; ca: string }) {
    this.token = token;
    this.#ca = tls?.ca;
    const handler = (request: IncomingMessage, response: ServerResponse): void => {
      this.#handle(request, response).catch((error: unknown) => {
        if (!response.headersSent) response.writeHead(500);
        response.end(JSON.stringify({ code: 'TEST_FAULT', detail: String(error) }));
      });
    };
    this.#server = tls === undefined ? createHttpServer(handler) : createHttpsServer({ cert: tls.cert, key: tls.key }, handler);
  }

  /** @returns its URL */
  async listen(port = 0): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', reject).listen(port, '127.0.0.1', resolve);
    await promise;
    return `${this.#ca === undefined ? 'http' : 'https'}://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#server.closeAllConnections();
    await promise;
  }

  /** The session with this number, from 0, as soon as it is open. */
  async session(number: number): Promise<TestSession> {
    await this.until(() => this.sessions.length > number);
    return this.sessions[number]!;
  }

  /** Resolves when the condition holds; looked at after every request. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.add(resolve);
      await promise;
      this.#waiting.delete(resolve);
    }
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const route = `${request.method} ${request.url}`;
    this.requests.push(route);
    let body = '';
    for await (const part of request) body += String(part);
    const [, sessionId, action] = /^POST \/api\/v1\/session\/([^/]+)\/(messages|locate)$/.exec(route) ?? [];
    if (route === 'GET /api/v1/ca' && this.#ca !== undefined) response.end(this.#ca);
    else if (route === 'POST /api/v1/enroll') await this.#enroll(JSON.parse(body), response);
    else if (route === 'POST /api/v1/session') await this.#open(JSON.parse(body), response);
    else if (sessionId !== undefined) await this.#post(sessionId, action!, request, body, response);
    else refuse(response, 404, 'ROUTE_UNKNOWN');
    for (const wake of this.#waiting) wake();
  }

  async #enroll(request: unknown, response: ServerResponse): Promise<void> {
    if (!checkEnroll.Check(request)) return refuse(response, 400, 'MALFORMED');
    if (request.tokenId !== this.token.id || !sameMac(request.mac, enrolmentMac(this.token, request.peerId, request.timestampMs))) {
      return refuse(response, 401, 'JOIN_TOKEN_REFUSED');
    }
    const publicKey = Buffer.from(request.publicKey, 'base64url');
    const text = Buffer.from(enrolmentText(request.tokenId, request.peerId, request.timestampMs));
    if (!(await verifies(publicKey, request.peerId, text, request.signature))) return refuse(response, 401, 'SIGNATURE_REFUSED');
    this.enrolled++;
    this.members.set(request.peerId, publicKey);
    response.end(JSON.stringify(this.#membership(request.peerId)));
  }

  async #open(request: unknown, response: ServerResponse): Promise<void> {
    if (!checkSession.Check(request)) return refuse(response, 400, 'MALFORMED');
    const publicKey = this.members.get(request.peerId);
    const text = Buffer.from(sessionText(request.peerId, request.nonce, request.timestampMs));
    if (publicKey === undefined || !(await verifies(publicKey, request.peerId, text, request.signature))) return refuse(response, 401, 'MEMBER_UNKNOWN');
    const session = new TestSession(request, response);
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    session.send({
      type: 'welcome',
      sessionId: session.id,
      key: session.key.toString('base64url'),
      epoch: this.epoch,
      heartbeatMs: this.heartbeatMs,
      ...this.#membership(request.peerId),
    });
    this.sessions.push(session);
    return undefined;
  }

  async #post(sessionId: string, action: string, request: IncomingMessage, body: string, response: ServerResponse): Promise<void> {
    const session = this.sessions.find(({ id }) => id === sessionId);
    if (session === undefined) return refuse(response, 404, 'SESSION_UNKNOWN');
    const sequence = Number(request.headers[SEQUENCE_HEADER]);
    const mac = String(request.headers[MAC_HEADER]);
    if (!sameMac(mac, messageMac(session.key, session.id, sequence, body))) return refuse(response, 401, 'MAC_REFUSED');
    const refused = this.refusePosts.shift();
    if (refused !== undefined) return refuse(response, refused, 'TEST_REFUSED');
    if (action === 'locate') {
      if (sequence !== 0 || !checkLocate.Check(JSON.parse(body))) return refuse(response, 400, 'MALFORMED');
      response.end(JSON.stringify(this.found === undefined ? {} : { found: this.found }));
      return undefined;
    }
    if (sequence !== session.sequence + 1) return refuse(response, 409, 'SEQUENCE_REFUSED');
    session.sequence = sequence;
    const batch: unknown = JSON.parse(body);
    if (!checkBatch.Check(batch)) return refuse(response, 400, 'MALFORMED');
    session.messages.push(...batch.messages);
    session.batches.push(batch.messages.length);
    for (const wake of this.#waiting) wake();
    await this.gate;
    response.writeHead(204).end();
    return undefined;
  }

  #membership(peerId: string): { fleetId: string; fleetKey: string; membership: string } {
    const membership = signMembership({ fleetId: 'test-fleet', peerId, notAfterMs: Date.now() + 3_600_000 }, this.#fleet.privateKey);
    return { fleetId: 'test-fleet', fleetKey: this.#fleet.publicKey.export({ type: 'spki', format: 'pem' }), membership };
  }
}

function refuse(response: ServerResponse, status: number, code: string): undefined {
  response.writeHead(status, { 'content-type': 'application/problem+json' });
  response.end(JSON.stringify({ type: 'about:blank', title: code, status, code, detail: 'as the test wants it' }));
}

async function verifies(publicKey: Uint8Array, peerId: string, text: Uint8Array, signature: string): Promise<boolean> {
  const key = publicKeyFromProtobuf(publicKey);
  return peerIdFromPublicKey(key).toString() === peerId && (await key.verify(text, Buffer.from(signature, 'base64url')));
}
