// Rollouts as an operator makes them: by the commands of `flotilla rollout`, with the token and the pin that the tracker's data folder holds.

import { join } from 'node:path';
import { run } from '@flotilla/agent/cli/program';
import type { RolloutDetail, RolloutHosts, RolloutSummary } from '@flotilla/shared/rollout-api';

export interface Said {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export class Operator {
  readonly #flags: readonly string[];

  /** @param trackerDir its data folder */
  constructor(trackerUrl: string, trackerDir: string) {
    // A config file of its own: the settings of this machine's agent are none of a test's business.
    this.#flags = ['--tracker', trackerUrl, '--token-file', join(trackerDir, 'operator-token'), '--join-token-file', join(trackerDir, 'join-token'), '--config', '/dev/null'];
  }

  /** `flotilla rollout …` as it is typed. */
  async rollout(...argv: string[]): Promise<Said> {
    const said = { out: '', err: '' };
    const code = await run(['rollout', ...argv, ...this.#flags], { out: (text) => void (said.out += text), err: (text) => void (said.err += text) });
    return { code, ...said };
  }

  /** Makes one and returns at once. @returns its id */
  async begin(image: string, ...flags: string[]): Promise<string> {
    const said = await this.rollout(image, ...flags, '--detach', '--json');
    if (said.code !== 0) throw new Error(said.err);
    return (JSON.parse(said.out) as RolloutDetail).id;
  }

  async list(): Promise<RolloutSummary[]> {
    return (JSON.parse((await this.rollout('list', '--json')).out) as { rollouts: RolloutSummary[] }).rollouts;
  }

  async show(id: string): Promise<RolloutDetail & RolloutHosts> {
    const said = await this.rollout('show', id, '--json');
    if (said.code !== 0) throw new Error(said.err);
    return JSON.parse(said.out) as RolloutDetail & RolloutHosts;
  }

  /** What each host is at, by name. */
  async states(id: string): Promise<Record<string, string>> {
    const { rows } = await this.show(id);
    return Object.fromEntries(rows.map(([, name, , state]) => [name, state]));
  }
}
