// For tests: hosts with names, zones and labels that speak the contract to a real tracker, keep coming back, and do their tasks.

import { setTimeout as delay } from 'node:timers/promises';
import type { JoinToken } from '@flotilla/shared/join-token';
import type { AgentMessage, RolloutTask, SessionRequest } from '@flotilla/shared/tracker-api';
import { TestAgent, TestIdentity } from '../test-agent.ts';
import type { HostFacts } from './selector.ts';

export type Report = Extract<AgentMessage, { type: 'rollout-progress' | 'rollout-result' }>;

const RECONNECT_MS = 20;

export class TestHostIdentity extends TestIdentity {
  readonly facts: HostFacts;

  constructor(facts: HostFacts) {
    super();
    this.facts = facts;
  }

  override session(timestampMs: number): SessionRequest {
    return { ...super.session(timestampMs), ...this.facts };
  }
}

/** One session: the tasks that it was told last, and a way to say how they went. */
export class HostSession {
  readonly agent: TestAgent;
  readonly #taken = new Set<string>();
  #posting: Promise<unknown> = Promise.resolve();

  constructor(agent: TestAgent) {
    this.agent = agent;
  }

  get tasks(): readonly RolloutTask[] {
    return this.agent.told('rollouts').at(-1)?.tasks ?? [];
  }

  /** The task of this kind, as soon as it is listed. */
  async task(kind: string): Promise<RolloutTask> {
    const { tasks } = await this.agent.next('rollouts', (event) => event.tasks.some(({ task }) => task === kind));
    return tasks.find(({ task }) => task === kind)!;
  }

  /** Tasks that were not taken before. */
  take(): RolloutTask[] {
    const fresh = this.tasks.filter(({ rolloutId, attempt }) => !this.#taken.has(`${rolloutId} ${attempt}`));
    for (const { rolloutId, attempt } of fresh) this.#taken.add(`${rolloutId} ${attempt}`);
    return fresh;
  }

  /** One post after the other, as the numbers want it. */
  report(...reports: Report[]): Promise<void> {
    const post = async (): Promise<void> => {
      const { status, text } = await this.agent.post(...reports);
      if (status !== 204) throw new Error(text);
    };
    const posted = this.#posting.then(post);
    this.#posting = posted.catch(() => undefined);
    return posted;
  }

  done({ rolloutId, attempt, task }: RolloutTask, digest: string): Promise<void> {
    const resolved = { digest, size: 500, mediaType: 'application/vnd.oci.image.index.v1+json' };
    return this.report({ type: 'rollout-result', rolloutId, attempt, ok: true, ...(task === 'resolve' && { resolved }) });
  }

  failed({ rolloutId, attempt }: RolloutTask): Promise<void> {
    return this.report({ type: 'rollout-result', rolloutId, attempt, ok: false, error: { code: 'DISK_FULL', message: 'no room' } });
  }
}

export async function connectHost(url: string, token: JoinToken, facts: HostFacts, identity = new TestHostIdentity(facts)): Promise<HostSession> {
  return new HostSession(await TestAgent.connect(url, undefined, token, identity));
}

/** A host that stays connected over deaths of the tracker, and takes each task once per session. */
export async function keepConnected(url: string, token: JoinToken, identity: TestHostIdentity, act: (session: HostSession, task: RolloutTask) => Promise<void>, signal: AbortSignal): Promise<void> {
  let enrolled = false;
  while (!signal.aborted) {
    try {
      const session = new HostSession(enrolled ? await TestAgent.reopen(url, undefined, identity) : await TestAgent.connect(url, undefined, token, identity));
      enrolled = true;
      const cut = (): void => session.agent.cut();
      signal.addEventListener('abort', cut, { once: true });
      const work = new Set<Promise<void>>();
      for (let open = true; open && !signal.aborted; ) {
        // The tracker may be gone before the word reaches it: said again in the next session.
        for (const task of session.take()) work.add(act(session, task).catch(() => undefined));
        open = await Promise.race([delay(RECONNECT_MS, true), session.agent.ended.then(() => false)]);
      }
      await Promise.all(work);
      signal.removeEventListener('abort', cut);
    } catch (error) {
      // Not there yet, or gone again in the middle of it.
      if (!(error instanceof Error)) throw error;
    }
    await delay(RECONNECT_MS);
  }
}
