// Short numbers for peer ids in records that name many. Durable: a number means the same member for ever. Bound: that of members, over time.

import type { Table } from '../state.ts';

export class PeerNumbers {
  readonly #table: Table<number>;
  readonly #byPeer = new Map<string, number>();
  readonly #byNumber: string[] = [];
  readonly #fresh = new Map<string, number>();

  private constructor(table: Table<number>) {
    this.#table = table;
  }

  static async open(table: Table<number>): Promise<PeerNumbers> {
    const numbers = new PeerNumbers(table);
    for await (const [peerId, number] of table.entries()) {
      numbers.#byPeer.set(peerId, number);
      numbers.#byNumber[number] = peerId;
    }
    return numbers;
  }

  of(peerId: string): number {
    let number = this.#byPeer.get(peerId);
    if (number === undefined) {
      number = this.#byNumber.length;
      this.#byNumber.push(peerId);
      this.#byPeer.set(peerId, number);
      this.#fresh.set(peerId, number);
    }
    return number;
  }

  peer(number: number): string | undefined {
    return this.#byNumber[number];
  }

  /** To be written before a record that uses new numbers. */
  flush(): Promise<void> | undefined {
    if (this.#fresh.size === 0) return undefined;
    const changes = new Map(this.#fresh);
    this.#fresh.clear();
    return this.#table.write(changes);
  }
}
