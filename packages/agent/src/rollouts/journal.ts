// What came of this host's latest tasks, kept in DIR/rollouts.json: a task that is told again after a restart is answered, not done again.
//
// Invariant: a result is on disk before the tracker hears of it, so a hook that has ended is not run twice. A crash while one runs makes it run again.
// Bound: the last MAX_RESULTS. A file that cannot be read counts as empty: tasks are done again, which costs little where the image is here.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentMessage } from '@flotilla/shared/tracker-api';
import { Compile } from 'typebox/compile';
import { writeDurably } from '../durable-file.ts';
import { AgentError } from '../errors.ts';
import type { RolloutResult } from './ports.ts';

const MAX_RESULTS = 256;

const validator = Compile(AgentMessage);

export class Journal {
  /** Why the file was not used, if there was one. */
  readonly damaged: AgentError | undefined;
  readonly #path: string;
  /** By rollout and attempt, oldest first. */
  readonly #results: Map<string, RolloutResult>;
  #written: Promise<void> = Promise.resolve();

  private constructor(path: string, results: readonly RolloutResult[], damaged: AgentError | undefined) {
    this.#path = path;
    this.#results = new Map(results.map((result) => [taskKey(result), result]));
    this.damaged = damaged;
  }

  static async open(dir: string): Promise<Journal> {
    const path = join(dir, 'rollouts.json');
    try {
      return new Journal(path, await readResults(path), undefined);
    } catch (error) {
      return new Journal(path, [], new AgentError('STORE_CORRUPT', `${path} cannot be used`, { cause: error }));
    }
  }

  get(task: { readonly rolloutId: string; readonly attempt: number }): RolloutResult | undefined {
    return this.#results.get(taskKey(task));
  }

  /** On return it survives a power cut. */
  async add(result: RolloutResult): Promise<void> {
    this.#results.set(taskKey(result), result);
    for (const oldest of this.#results.keys()) {
      if (this.#results.size <= MAX_RESULTS) break;
      this.#results.delete(oldest);
    }
    const write = (): Promise<void> => writeDurably(this.#path, Buffer.from(JSON.stringify([...this.#results.values()])));
    // One at a time, each with all that is there at its start; a failed write is its own caller's to hear of.
    this.#written = this.#written.then(write, write);
    await this.#written;
  }

  /** Resolves when what was begun to be written is written, or could not be. */
  async settled(): Promise<void> {
    await Promise.allSettled([this.#written]);
  }
}

/** One task is one attempt of one rollout. */
export function taskKey({ rolloutId, attempt }: { readonly rolloutId: string; readonly attempt: number }): string {
  return `${rolloutId} ${attempt}`;
}

async function readResults(path: string): Promise<RolloutResult[]> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  const results: unknown = JSON.parse(text);
  if (!Array.isArray(results)) throw new RangeError('no list of results');
  return results.map((result: unknown) => {
    if (!validator.Check(result) || result.type !== 'rollout-result') throw new RangeError('no result of a rollout');
    return result;
  });
}
