// For tests: an agent as the contract has it, on a real socket, with nothing of the agent's own code.

import { generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { publicKeyFromRaw, publicKeyToProtobuf } from '@libp2p/crypto/keys';
import { peerIdFromPublicKey } from '@libp2p/peer-id';
import { enrolmentMac, enrolmentText, type JoinToken } from '@flotilla/shared/join-token';
import { MAC_HEADER, messageMac, ROUTES, SEQUENCE_HEADER, sessionText, type AgentMessage, type EnrollRequest, type EnrollResponse, type Problem, type SessionRequest, type TrackerEvent } from '@flotilla/shared/tracker-api';

export interface Reply {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

/** An identity as libp2p makes them. */
export class TestIdentity {
  readonly peerId: string;
  readonly publicKey: string;
  readonly #key: KeyObject;

  constructor() {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const libp2pKey = publicKeyFromRaw(Buffer.from(publicKey.export({ format: 'jwk' }).x!, 'base64url'));
    this.#key = privateKey;
    this.peerId = peerIdFromPublicKey(libp2pKey).toString();
    this.publicKey = Buffer.from(publicKeyToProtobuf(libp2pKey)).toString('base64url');
  }

  sign(text: string | Uint8Array): string {
    return sign(null, Buffer.from(text), this.#key).toString('base64url');
  }

  enrolment(token: JoinToken, timestampMs: number): EnrollRequest {
    const { peerId, publicKey } = this;
    return { tokenId: token.id, peerId, publicKey, timestampMs, mac: enrolmentMac(token, peerId, timestampMs), signature: this.sign(enrolmentText(token.id, peerId, timestampMs)) };
  }

  session(timestampMs: number): SessionRequest {
    const { peerId } = this;
    const nonce = randomBytes(16).toString('base64url');
    return { peerId, nonce, timestampMs, signature: this.sign(sessionText(peerId, nonce, timestampMs)), addresses: ['/ip4/127.0.0.1/tcp/5051'], name: 'host', labels: {}, agentVersion: '0' };
  }
}

/** One request, a connection of its own. @param ca the only CA that counts */
export function call(url: string, { ca, method = 'GET', headers = {}, body }: { ca?: string | undefined; method?: string; headers?: Record<string, string>; body?: string } = {}): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>();
  open(url, { ca, method, headers, body }, (response) => {
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (part: string) => (text += part));
    response.on('end', () => resolve({ status: response.statusCode!, type: response.headers['content-type'] ?? '', text }));
    response.on('error', reject);
  }).on('error', reject);
  return promise;
}

function open(url: string, { ca, method, headers, body }: { ca: string | undefined; method: string; headers: Record<string, string>; body: string | undefined }, onResponse: (response: IncomingMessage) => void): ReturnType<typeof httpRequest> {
  const options = { method, agent: false as const, headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...headers } };
  const request = url.startsWith('https:') ? httpsRequest(url, { ...options, ca }, onResponse) : httpRequest(url, options, onResponse);
  return request.end(body);
}

export function problem(reply: Reply): Problem {
  return JSON.parse(reply.text) as Problem;
}

/** An agent with a session. Events are kept; `next` waits for one. */
export class TestAgent {
  readonly identity: TestIdentity;
  readonly events: TrackerEvent[] = [];
  readonly ended: Promise<void>;
  sequence = 0;
  readonly #url: string;
  readonly #ca: string | undefined;
  readonly #response: IncomingMessage;
  readonly #waiting = new Set<() => void>();

  private constructor(url: string, ca: string | undefined, identity: TestIdentity, response: IncomingMessage) {
    this.#url = url;
    this.#ca = ca;
    this.identity = identity;
    this.#response = response;
    this.ended = new Promise((resolve) => {
      response.once('close', resolve);
    });
    response.on('error', () => undefined);
    this.listen();
  }

  /** Enrols and opens a session; resolves with its welcome here. */
  static async connect(url: string, ca: string | undefined, token: JoinToken, identity = new TestIdentity(), nowMs = Date.now()): Promise<TestAgent> {
    const enrolled = await call(url + ROUTES.enroll, { ca, method: 'POST', body: JSON.stringify(identity.enrolment(token, nowMs)) });
    if (enrolled.status !== 200) throw new Error(enrolled.text);
    return TestAgent.reopen(url, ca, identity, nowMs);
  }

  static async reopen(url: string, ca: string | undefined, identity: TestIdentity, nowMs = Date.now()): Promise<TestAgent> {
    const response = await TestAgent.stream(url, ca, JSON.stringify(identity.session(nowMs)));
    const agent = new TestAgent(url, ca, identity, response);
    await agent.next('welcome');
    return agent;
  }

  static stream(url: string, ca: string | undefined, body: string): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    open(url + ROUTES.session, { ca, method: 'POST', headers: {}, body }, resolve).on('error', reject);
    return promise;
  }

  get welcome(): Extract<TrackerEvent, { type: 'welcome' }> {
    return this.told('welcome')[0]!;
  }

  told<T extends TrackerEvent['type']>(type: T): Extract<TrackerEvent, { type: T }>[] {
    return this.events.filter((event): event is Extract<TrackerEvent, { type: T }> => event.type === type);
  }

  /** The first event of this type that fits, now or later. */
  async next<T extends TrackerEvent['type']>(type: T, fits: (event: Extract<TrackerEvent, { type: T }>) => boolean = () => true): Promise<Extract<TrackerEvent, { type: T }>> {
    for (;;) {
      const event = this.told(type).find(fits);
      if (event !== undefined) return event;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.add(resolve);
      await Promise.race([promise, this.ended.then(() => Promise.reject(new Error(`the stream ended before ${type}`)))]);
    }
  }

  post(...messages: AgentMessage[]): Promise<Reply> {
    return this.postBody(JSON.stringify({ messages }), ++this.sequence);
  }

  postBody(body: string, sequence: number, mac = this.mac(sequence, body)): Promise<Reply> {
    return call(this.#url + ROUTES.messages(this.welcome.sessionId), { ca: this.#ca, method: 'POST', body, headers: { [SEQUENCE_HEADER]: String(sequence), [MAC_HEADER]: mac } });
  }

  /** @param mac absent: the right one */
  ask(body: object, sequence = 0, route: 'locate' | 'resolve' = 'locate', mac?: string): Promise<Reply> {
    const text = JSON.stringify(body);
    return call(this.#url + ROUTES[route](this.welcome.sessionId), { ca: this.#ca, method: 'POST', body: text, headers: { [SEQUENCE_HEADER]: String(sequence), [MAC_HEADER]: mac ?? this.mac(sequence, text) } });
  }

  mac(sequence: number, body: string): string {
    return messageMac(Buffer.from(this.welcome.key, 'base64url'), this.welcome.sessionId, sequence, body);
  }

  /** Takes nothing from the stream any more. */
  stall(): void {
    this.#response.pause();
  }

  /** As a crash does it. */
  cut(): void {
    this.#response.destroy();
  }

  private listen(): void {
    let rest = '';
    this.#response.setEncoding('utf8');
    this.#response.on('data', (part: string) => {
      const lines = (rest + part).split('\n');
      rest = lines.pop()!;
      for (const line of lines) this.events.push(JSON.parse(line) as TrackerEvent);
      for (const resolve of this.#waiting) resolve();
      this.#waiting.clear();
    });
  }
}

export function parseEnrolled(reply: Reply): EnrollResponse {
  return JSON.parse(reply.text) as EnrollResponse;
}

