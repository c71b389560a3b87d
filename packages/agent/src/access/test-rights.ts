// Rights over a folder of their own, with time that the test moves and an origin in a function.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseDigest, type Digest } from '@flotilla/shared/digest';
import type { Authority, Caller, Permit, Repository, Right } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import { Rights, type AccessOutcome, type Fact, type RightsInit } from './rights.ts';

export const DAY_MS = 24 * 3600_000;
export const APP: Repository = { origin: 'lab', repository: 'team/app' };
export const OTHER: Repository = { origin: 'lab', repository: 'team/app2' };
export const unauthorized = new AgentError('ORIGIN_UNAUTHORIZED', 'lab answered 401', { detail: { status: 401 } });
export const unreachable = new AgentError('ORIGIN_UNREACHABLE', 'connection refused');

export function digestOf(n: number): Digest {
  return parseDigest(`sha256:${n.toString(16).padStart(64, '0')}`);
}

export function blob(n: number): Fact {
  return { digest: digestOf(n), size: n, mediaType: 'application/octet-stream', kind: 'blob' };
}

/** A caller with these credentials; without, with none. */
export function caller(text?: string): Caller {
  return { authorization: text === undefined ? undefined : `Basic ${Buffer.from(text).toString('base64')}`, asksOrigin: false };
}

/** Who the origin lets in: by kind, or by the caller's header. */
export function lets(...allowed: string[]): (authority: Authority) => Promise<{ right: Right }> {
  return async (authority) => {
    const name = authority.kind === 'caller' ? authority.authorization : authority.kind;
    if (!allowed.includes(name)) throw unauthorized;
    return { right: { anonymous: authority.kind === 'anonymous', lifetimeMs: undefined } };
  };
}

export class TestRights implements AsyncDisposable {
  readonly dir: string;
  readonly outcomes: AccessOutcome[] = [];
  readonly unnoted: unknown[] = [];
  nowMs = 1_800_000_000_000;
  #rules: RightsInit['rules'];
  #rights: Rights | undefined;
  #tick: () => void = () => undefined;

  private constructor(dir: string, rules: Partial<RightsInit['rules']>) {
    this.dir = dir;
    this.#rules = { mode: 'agent', allow: [], originDown: 'same-repository', challenge: false, tellPrivateNames: false, ...rules };
  }

  static async open(rules: Partial<RightsInit['rules']> = {}): Promise<TestRights> {
    const rights = new TestRights(await mkdtemp(join(tmpdir(), 'flotilla-rights-')), rules);
    await rights.restart();
    return rights;
  }

  get rights(): Rights {
    return this.#rights!;
  }

  async restart(rules: Partial<RightsInit['rules']> = {}): Promise<void> {
    await this.#rights?.close();
    this.#rules = { ...this.#rules, ...rules };
    this.#rights = await Rights.open(this.dir, {
      rules: this.#rules,
      key: new Uint8Array(32).fill(7),
      listed: (origin) => !origin.includes('.'),
      decided: (outcome) => this.outcomes.push(outcome),
      unnoted: (error) => this.unnoted.push(error),
      nowMs: () => this.nowMs,
      every: (_, tick) => {
        this.#tick = tick;
        return () => {
          this.#tick = () => undefined;
        };
      },
    });
  }

  /** An hour has passed, as far as the timer goes. */
  tick(): void {
    this.#tick();
  }

  /** The origin has let this caller in. */
  async letIn(who: Caller, repository = APP, right: Partial<Right> = {}): Promise<Permit> {
    const { permit } = await this.rights.ask(repository, who, 'blob', async (authority) => {
      if ((authority.kind === 'anonymous') !== (who.authorization === undefined)) throw unauthorized;
      return { right: { anonymous: authority.kind === 'anonymous', lifetimeMs: undefined, ...right } };
    });
    return permit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rights?.close();
    await rm(this.dir, { recursive: true });
  }
}
