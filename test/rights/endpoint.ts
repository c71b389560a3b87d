// The way from the local endpoint to the origin as the agent has it, in one process, with a clock that the test moves: registry, rights,
// images, downloads and registry client are the agent's own; the store, the peers and the leases are those of content/'s tests.

import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { request } from 'undici';
import { Rights, type AccessOutcome, type RightsInit } from '@flotilla/agent/access/rights';
import { Downloads } from '@flotilla/agent/content/downloads';
import { downloadInit, Images } from '@flotilla/agent/content/images';
import type { Caller, Repository } from '@flotilla/agent/content/ports';
import { Prefetch } from '@flotilla/agent/content/prefetch';
import { grantingCoordinator, TestStore, TestSwarm, type TestCoordinator } from '@flotilla/agent/content/test-ports';
import { HashPool } from '@flotilla/agent/content/verification';
import { createLogger } from '@flotilla/agent/log';
import { createMetrics } from '@flotilla/agent/metrics';
import { createOrigin, type OriginClient } from '@flotilla/agent/origin/client';
import { createRegistry, type Registry } from '@flotilla/agent/registry/registry';
import type { Digest } from '@flotilla/shared/digest';
import { TokenOrigin } from './token-origin.ts';

/** Anybody can run an origin that the operator has not named. */
export const UNLISTED = 'evil';

export interface EndpointInit {
  readonly rules?: Partial<RightsInit['rules']>;
  /** The agent's own, at every origin. */
  readonly own?: { readonly username: string; readonly password: string };
  /** NAMEs of the one origin besides `lab`. */
  readonly names?: readonly string[];
}

export interface Reply {
  readonly status: number;
  /** The agent's code of a failure. */
  readonly code: string | undefined;
  readonly message: string | undefined;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

export class Endpoint implements AsyncDisposable {
  readonly origin: TokenOrigin;
  readonly clock = { nowMs: Date.now() };
  readonly outcomes: AccessOutcome[] = [];
  readonly coordinator: TestCoordinator = grantingCoordinator();
  readonly store = new TestStore();
  readonly dir: string;
  images!: Images;
  rights!: Rights;
  #running!: { readonly registry: Registry; readonly client: OriginClient; readonly downloads: Downloads; readonly prefetch: Prefetch; readonly hashes: HashPool; readonly url: string };
  readonly #init: EndpointInit;

  private constructor(dir: string, origin: TokenOrigin, init: EndpointInit) {
    this.dir = dir;
    this.origin = origin;
    this.#init = init;
  }

  static async start(init: EndpointInit = {}): Promise<Endpoint> {
    let endpoint: Endpoint | undefined;
    const origin = await TokenOrigin.start(() => endpoint!.clock.nowMs);
    endpoint = new Endpoint(await mkdtemp(join(tmpdir(), 'flotilla-endpoint-')), origin, init);
    await endpoint.#open();
    return endpoint;
  }

  /** Another process with the same folder; what was in the store is lost where `keepStore` is false. */
  async restart(): Promise<void> {
    await this.#close();
    await this.#open();
  }

  /** Asks the endpoint as a client does. */
  async ask(method: 'GET' | 'HEAD', path: string, credentials?: string): Promise<Reply> {
    const headers = { accept: '*/*', ...(credentials !== undefined && { authorization: authorization(credentials) }) };
    const { statusCode, headers: answered, body } = await request(`${this.#running.url}${path}`, { method, headers });
    const bytes = Buffer.from(await body.arrayBuffer());
    const [error] = statusCode < 400 || bytes.length === 0 ? [] : (JSON.parse(bytes.toString()) as { errors: { message: string; detail: { code: string } }[] }).errors;
    return { status: statusCode, code: error?.detail.code, message: error?.message, headers: answered, body: bytes };
  }

  manifest(method: 'GET' | 'HEAD', repository: string, reference: string, credentials?: string): Promise<Reply> {
    return this.ask(method, `/v2/${repository}/manifests/${reference}`, credentials);
  }

  blob(method: 'GET' | 'HEAD', repository: string, digest: Digest, credentials?: string): Promise<Reply> {
    return this.ask(method, `/v2/${repository}/blobs/${digest}`, credentials);
  }

  /** Reads an image by tag, manifest and layer, as a client does. @returns whether it was let */
  async pull(repository: string, tag: string, layer: Digest, credentials?: string): Promise<boolean> {
    const manifest = await this.manifest('GET', repository, tag, credentials);
    if (manifest.status !== 200) return false;
    return (await this.blob('GET', repository, layer, credentials)).status === 200;
  }

  /** As a rollout or `flotilla pull` does: with the agent's own right, whatever the rules for callers say. */
  async pullAsAgent(repository: Repository, tag: string, layer: Digest): Promise<void> {
    const caller: Caller = { authorization: undefined, asksOrigin: false, own: true };
    const { signal } = new AbortController();
    await (await this.images.manifest(repository, { tag }, [], caller, signal)).bytes(signal);
    const blob = await this.images.blob(repository, layer, caller, signal);
    for await (const _ of await blob.open({ start: 0, end: blob.key.size }, signal));
  }

  /** Everything that is kept on disk. */
  async kept(): Promise<Buffer> {
    const files = await readdir(this.dir);
    return Buffer.concat(await Promise.all(files.map((file) => readFile(join(this.dir, file)))));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
    await this.origin[Symbol.asyncDispose]();
    await rm(this.dir, { recursive: true });
  }

  async #open(): Promise<void> {
    const { rules, own, names = [] } = this.#init;
    const nowMs = (): number => this.clock.nowMs;
    const log = createLogger('silent');
    const metrics = createMetrics({ defaults: false });
    const client = createOrigin(
      { origins: ['lab', UNLISTED, ...names].map((name) => ({ name, urls: [this.origin.url] })), backoffMs: 1 },
      {
        metrics: metrics.origin,
        nowMs,
        ...(own !== undefined && { credentials: { find: () => Promise.resolve({ secret: { kind: 'basic', ...own }, from: 'test', failure: undefined }), refused: () => undefined } }),
      },
    );
    this.rights = await Rights.open(this.dir, {
      rules: { mode: 'agent', allow: [], originDown: 'same-repository', challenge: false, tellPrivateNames: false, ...rules },
      key: new Uint8Array(32).fill(9),
      listed: (origin) => client.listed(origin) && origin !== UNLISTED,
      decided: (outcome) => this.outcomes.push(outcome),
      unnoted: (error) => {
        throw error;
      },
      nowMs,
      every: () => () => undefined,
    });
    const { rights } = this;
    const hashes = new HashPool();
    const downloads = new Downloads({
      store: this.store,
      origin: client,
      swarm: new TestSwarm(),
      coordinator: this.coordinator,
      hashes,
      now: Date.now,
      log,
      metrics: metrics.content,
      rights: {
        reading: (source, digest) => rights.reading(source, digest),
        refused: ({ source, authority }, digest, error) => void rights.refused(source, authority, digest, error),
      },
    });
    const prefetch = new Prefetch(
      (permit, reference, signal) => downloads.fetch(reference, downloadInit(permit, reference), signal),
      () => undefined,
    );
    this.images = new Images({ origin: client, downloads, rights, coordinator: this.coordinator, prefetch, log, fallback: () => undefined, now: nowMs });
    const registry = createRegistry(
      { content: this.images, resolveImage: (path, ns) => client.resolveImage(path, ns), log, metrics: metrics.registry },
      { challenge: rules?.challenge === true },
    );
    const { port } = await registry.listen({ host: '127.0.0.1', port: 0 });
    this.#running = { registry, client, downloads, prefetch, hashes, url: `http://127.0.0.1:${port}` };
  }

  async #close(): Promise<void> {
    const { registry, prefetch, downloads, client, hashes } = this.#running;
    await registry.close();
    prefetch.close();
    await downloads.close();
    await client.close();
    await this.rights.close();
    await hashes.close();
  }
}

/** `user:password`, or a whole header. */
function authorization(credentials: string): string {
  return /^\w+ /.test(credentials) && !credentials.includes(':') ? credentials : `Basic ${Buffer.from(credentials).toString('base64')}`;
}
