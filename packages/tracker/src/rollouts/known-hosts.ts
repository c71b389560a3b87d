// Name, zone and labels of the members, as each last told them: a rollout is for hosts that are away as well.
//
// Durable, one entry per member; entries of members that are forgotten go at the next start. Writes are not waited for: a lost one comes
// back with the host's next session.

import type { SessionRequest } from '@flotilla/shared/tracker-api';
import type { Table } from '../state.ts';
import type { HostFacts } from './selector.ts';

export class KnownHosts {
  readonly #table: Table<HostFacts>;
  readonly #hosts: Map<string, HostFacts>;

  private constructor(table: Table<HostFacts>, hosts: Map<string, HostFacts>) {
    this.#table = table;
    this.#hosts = hosts;
  }

  /** @param isMember who is in the fleet still */
  static async open(table: Table<HostFacts>, isMember: (peerId: string) => boolean): Promise<KnownHosts> {
    const hosts = new Map<string, HostFacts>();
    const gone = new Map<string, undefined>();
    for await (const [peerId, facts] of table.entries()) {
      if (isMember(peerId)) hosts.set(peerId, facts);
      else gone.set(peerId, undefined);
    }
    if (gone.size > 0) await table.write(gone);
    return new KnownHosts(table, hosts);
  }

  all(): Iterable<[peerId: string, facts: HostFacts]> {
    return this.#hosts;
  }

  get(peerId: string): HostFacts | undefined {
    return this.#hosts.get(peerId);
  }

  /** A session has opened. */
  async seen({ peerId, name, zone, labels }: Pick<SessionRequest, 'peerId' | 'name' | 'zone' | 'labels'>): Promise<void> {
    const facts: HostFacts = { name, ...(zone !== undefined && { zone }), labels };
    if (JSON.stringify(this.#hosts.get(peerId)) === JSON.stringify(facts)) return;
    this.#hosts.set(peerId, facts);
    await this.#table.put(peerId, facts);
  }
}
