// What a client is tried against: a registry with every kind of content, an agent before it, and the proof that what a client got came by
// the agent.

import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pushEveryKind, type EveryKind } from './every-kind.ts';
import { FleetProcesses, type AgentProgram } from './processes.ts';
import type { Descriptor } from './push.ts';
import { startRegistry, type RunningRegistry } from './registry.ts';

const REPOSITORY = 'library/kinds';

export class ClientEndpoint {
  readonly registry: RunningRegistry;
  readonly agent: AgentProgram;
  readonly kinds: EveryKind;
  /** The repository as its mirrors know it. */
  readonly upstream = `docker.io/${REPOSITORY}`;
  readonly #fleet: FleetProcesses;
  readonly #elsewhere: Server;

  private constructor(registry: RunningRegistry, fleet: FleetProcesses, agent: AgentProgram, kinds: EveryKind, elsewhere: Server) {
    this.registry = registry;
    this.#fleet = fleet;
    this.agent = agent;
    this.kinds = kinds;
    this.#elsewhere = elsewhere;
  }

  static async start(): Promise<ClientEndpoint> {
    const registry = await startRegistry();
    // Where foreign layers lie: no registry.
    const foreign: { bytes?: Buffer } = {};
    const elsewhere = createServer((_, response) => response.end(foreign.bytes));
    await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
    const kinds = await pushEveryKind(registry.url, REPOSITORY, `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/layer`);
    foreign.bytes = kinds.foreign.foreignBytes;
    const fleet = await FleetProcesses.start();
    const agent = await fleet.addAgent('a', ['--origin', `docker.io=${registry.url}`, '--default-origin', 'docker.io']);
    return new ClientEndpoint(registry, fleet, agent, kinds, elsewhere);
  }

  /** The name of a tag without any mirror setting. */
  byName(tag: string): string {
    return `${this.agent.host}/${this.upstream}:${tag}`;
  }

  /** The name of a tag for a client whose mirror is the agent. */
  byMirror(tag: string): string {
    return `${this.upstream}:${tag}`;
  }

  /**
   * Lets a client work.
   * @throws Error where not all bytes of these blobs came by the agent, or anybody else asked the registry
   */
  async throughAgent<T>(blobs: readonly Descriptor[], work: () => Promise<T>): Promise<T> {
    const total = async (): Promise<number> => Object.values(await this.agent.blobBytes()).reduce((sum, bytes) => sum + bytes, 0);
    const [before, asked] = [await total(), this.registry.requests.length];
    const result = await work();
    const given = (await total()) - before;
    const expected = blobs.reduce((sum, { size }) => sum + size, 0);
    if (given < expected) throw new Error(`the agent gave ${given} bytes, at least ${expected} were to come by it`);
    const strangers = this.registry.requests.slice(asked).filter(({ userAgent }) => !userAgent.startsWith('flotilla/'));
    if (strangers.length > 0) throw new Error(`the registry was asked by ${strangers.map(({ userAgent, uri }) => `${userAgent}: ${uri}`).join(', ')}`);
    return result;
  }

  async close(): Promise<void> {
    await this.#fleet.close();
    this.#elsewhere.closeAllConnections();
    await new Promise<void>((resolve) => this.#elsewhere.close(() => resolve()));
    await this.registry.close();
  }
}
