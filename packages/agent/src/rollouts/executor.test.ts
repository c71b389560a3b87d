import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HookOutcome, RolloutTask } from '@flotilla/shared/tracker-api';
import { AgentMessage } from '@flotilla/shared/tracker-api';
import { Compile } from 'typebox/compile';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AgentError } from '../errors.ts';
import { createLogger } from '../log.ts';
import { RolloutExecutor } from './executor.ts';
import type { HookFacts } from './hook.ts';
import { Journal } from './journal.ts';
import type { RolloutProgress, RolloutResult } from './ports.ts';
import { TestImages, type MadeImage } from './test-images.ts';

const check = Compile(AgentMessage);
const HOST = { os: 'linux', architecture: 'amd64' };

class Host {
  readonly images = new TestImages();
  readonly reports: (RolloutProgress | RolloutResult)[] = [];
  readonly waits: number[] = [];
  readonly hooks: HookFacts[] = [];
  readonly journal: Journal;
  executor: RolloutExecutor;
  nowMs = 1_000;
  readonly #hook: HookOutcome | undefined;
  #tick: () => void = () => undefined;
  readonly #waiting = new Set<() => void>();

  constructor(journal: Journal, hook?: HookOutcome) {
    this.journal = journal;
    this.#hook = hook;
    this.executor = this.start();
  }

  start(): RolloutExecutor {
    const hook = this.#hook;
    return new RolloutExecutor({
      images: this.images,
      journal: this.journal,
      report: (message) => {
        expect(check.Check(JSON.parse(JSON.stringify(message))), JSON.stringify(message)).toBe(true);
        this.reports.push(message);
        for (const wake of this.#waiting) wake();
      },
      host: HOST,
      ...(hook && {
        hook: async (facts: HookFacts) => {
          this.hooks.push(facts);
          return hook;
        },
      }),
      endpoint: () => '127.0.0.1:5050',
      log: createLogger('silent'),
      now: () => this.nowMs,
      wait: async (ms) => this.waits.push(ms),
      every: (_ms, act) => {
        this.#tick = act;
        return () => undefined;
      },
    });
  }

  async pass(ms: number): Promise<void> {
    this.nowMs += ms;
    this.#tick();
    await new Promise(setImmediate);
  }

  results(): RolloutResult[] {
    return this.reports.filter((report) => report.type === 'rollout-result');
  }

  progress(rolloutId = 'r-1'): RolloutProgress[] {
    return this.reports.filter((report): report is RolloutProgress => report.type === 'rollout-progress' && report.rolloutId === rolloutId);
  }

  async until(fits: () => boolean): Promise<void> {
    while (!fits()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.add(resolve);
      await promise;
      this.#waiting.delete(resolve);
    }
  }

  async ended(count = 1): Promise<RolloutResult> {
    await this.until(() => this.results().length >= count);
    return this.results()[count - 1]!;
  }
}

let dir: string;
const hosts: Host[] = [];

async function newHost(hook?: HookOutcome): Promise<Host> {
  const host = new Host(await Journal.open(dir), hook);
  hosts.push(host);
  return host;
}

function task(image: Pick<MadeImage, 'digest'>, change: Partial<RolloutTask> = {}): RolloutTask {
  return { rolloutId: 'r-1', attempt: 1, task: 'pull', origin: 'docker.io', repository: 'library/nginx', tag: '1.27', digest: image.digest, ...change };
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-executor-'));
});

afterEach(async () => {
  await Promise.all(hosts.splice(0).map(({ executor }) => executor.close()));
  await rm(dir, { recursive: true });
});

describe('resolving', () => {
  test('says what the origin says', async () => {
    const host = await newHost();
    const { digest, size, mediaType } = host.images.addImage('1.27', [100]);
    host.executor.tasks([{ rolloutId: 'r-1', attempt: 1, task: 'resolve', origin: 'docker.io', repository: 'library/nginx', tag: '1.27' }]);
    expect(await host.ended()).toMatchObject({ ok: true, resolved: { digest, size, mediaType } });
    expect(host.progress().map(({ phase }) => phase)).toContain('resolving');
  });

  test('an answer of the origin is final, its silence is tried again', async () => {
    const host = await newHost();
    host.images.addImage('1.27', [100]);
    host.images.faults.push(new AgentError('ORIGIN_UNREACHABLE', 'refused'), new AgentError('ORIGIN_THROTTLED', '429', { retryAfterMs: 9_000 }), new AgentError('ORIGIN_DENIED', 'no'));
    host.executor.tasks([{ rolloutId: 'r-1', attempt: 1, task: 'resolve', origin: 'docker.io', repository: 'library/nginx', tag: '1.27' }]);
    expect(await host.ended()).toMatchObject({ ok: false, error: { code: 'ORIGIN_DENIED', message: 'no' } });
    expect(host.waits).toEqual([1_000, 9_000]);
  });
});

describe('pulling', () => {
  test('the whole image is fetched, told of layer by layer, and its tag is pinned', async () => {
    const host = await newHost();
    const image = host.images.addImage('1.27', [3_000, 5_000]);
    const [config, first, second] = image.layers as [MadeImage, MadeImage, MadeImage];
    const gate = Promise.withResolvers<void>();
    host.images.beforeFetched = (digest) => (digest === second.digest ? gate.promise : undefined);
    host.executor.tasks([task(image)]);
    await host.until(() => host.progress().some(({ layers }) => layers !== undefined));
    const told = host.progress().find(({ layers }) => layers !== undefined)!;
    expect(told).toMatchObject({ phase: 'pulling', manifest: image.digest, layers: [config, first, second].map(({ digest, size }) => ({ digest, size })) });
    host.images.partial.set(second.digest, 2_000);
    await host.pass(1_000);
    expect(host.progress().at(-1)).toEqual({ type: 'rollout-progress', rolloutId: 'r-1', attempt: 1, phase: 'pulling', held: [config.size, 3_000, 2_000], fetched: { peer: config.size + 3_000, origin: 2_000 } });
    expect(host.executor.status()).toMatchObject([{ image: 'docker.io/library/nginx:1.27', phase: 'pulling', held: config.size + 5_000, size: config.size + 8_000 }]);
    expect(host.images.kept.get(first.digest)).toBe(1);
    gate.resolve();
    const size = config.size + 8_000;
    expect(await host.ended()).toMatchObject({ ok: true, manifest: image.digest, bytes: { size, peer: size, origin: 0 } });
    expect(host.images.pins.get('docker.io/library/nginx:1.27')).toMatchObject({ digest: image.digest, size: image.size });
    expect([...host.images.kept.values()].every((count) => count === 0)).toBe(true);
  });

  test('of an index the manifest of the platform, which is the own one by default; the tag is pinned to the index', async () => {
    const host = await newHost();
    const amd = host.images.addImage('amd', [1_000]);
    const arm = host.images.addImage('arm', [2_000], 'linux/arm64');
    const index = host.images.addIndex('1.27', { 'linux/amd64': amd, 'linux/arm64/v8': arm, 'unknown/unknown': amd });
    host.executor.tasks([task(index)]);
    expect(await host.ended(1)).toMatchObject({ ok: true, manifest: amd.digest });
    expect(host.images.stored.has(arm.layers[1]!.digest)).toBe(false);
    expect(host.images.pins.get('docker.io/library/nginx:1.27')).toMatchObject({ digest: index.digest });
    host.executor.tasks([task(index, { rolloutId: 'r-2', platform: 'linux/arm64' })]);
    expect(await host.ended(2)).toMatchObject({ ok: true, manifest: arm.digest });
    host.executor.tasks([task(index, { rolloutId: 'r-3', platform: 'linux/s390x' })]);
    const refused = await host.ended(3);
    expect(refused).toMatchObject({ ok: false, error: { code: 'PLATFORM_UNKNOWN' } });
    expect(refused.error!.message).toContain('linux/amd64');
  });

  test('an image of one platform is none of another that a rollout names, and is taken as it is where it names none', async () => {
    const host = await newHost();
    const amd = host.images.addImage('amd', [1_000]);
    host.executor.tasks([task(amd, { platform: 'linux/arm64' })]);
    const refused = await host.ended(1);
    expect(refused).toMatchObject({ ok: false, error: { code: 'PLATFORM_UNKNOWN', message: 'the image is not there for linux/arm64, only for linux/amd64' } });
    expect(host.images.stored.has(amd.layers[1]!.digest)).toBe(false);
    host.executor.tasks([task(amd, { rolloutId: 'r-2', platform: 'linux/amd64' })]);
    expect(await host.ended(2)).toMatchObject({ ok: true, manifest: amd.digest });
    host.executor.tasks([task(amd, { rolloutId: 'r-3', task: 'verify', platform: 'linux/arm64' })]);
    expect(await host.ended(3)).toMatchObject({ ok: false, error: { code: 'PLATFORM_UNKNOWN' } });
    const arm = host.images.addImage('arm', [1_000], 'linux/arm64');
    host.executor.tasks([task(arm, { rolloutId: 'r-4' })]);
    expect(await host.ended(4)).toMatchObject({ ok: true, manifest: arm.digest });
  });

  test('what is not listed any more is stopped, without a word; listed again it goes on', async () => {
    const host = await newHost();
    const image = host.images.addImage('1.27', [3_000]);
    const stopped = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    let gated = true;
    host.images.beforeFetched = async (_digest, signal) => {
      if (!gated) return;
      reached.resolve();
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      stopped.resolve();
    };
    host.executor.tasks([task(image)]);
    await reached.promise;
    const before = host.reports.length;
    host.executor.tasks([]);
    await stopped.promise;
    await host.pass(20_000);
    expect(host.reports.length).toBe(before);
    gated = false;
    host.executor.tasks([task(image)]);
    expect(await host.ended()).toMatchObject({ ok: true, attempt: 1 });
  });

  test('the first failure ends it, and says why; another attempt is another task', async () => {
    const host = await newHost();
    const image = host.images.addImage('1.27', [3_000, 4_000]);
    host.images.beforeFetched = () => Promise.reject(new AgentError('DISK_FULL', 'no room'));
    host.executor.tasks([task(image)]);
    expect(await host.ended()).toMatchObject({ ok: false, error: { code: 'DISK_FULL', message: 'no room' } });
    host.images.beforeFetched = () => undefined;
    host.executor.tasks([task(image, { attempt: 2 })]);
    expect(await host.ended(2)).toMatchObject({ ok: true, attempt: 2 });
  });

  test('a blob that is gone again before the end is not "have"', async () => {
    const host = await newHost();
    const image = host.images.addImage('1.27', [3_000, 4_000]);
    host.images.beforeFetched = (digest) => void (digest === image.layers[2]!.digest && setImmediate(() => host.images.stored.delete(image.layers[1]!.digest)));
    host.images.keep = () => () => undefined;
    const held = host.images.held.bind(host.images);
    host.images.held = async (blob) => {
      await new Promise(setImmediate);
      return held(blob);
    };
    host.executor.tasks([task(image)]);
    expect(await host.ended()).toMatchObject({ ok: false, error: { code: 'IMAGE_INCOMPLETE' } });
  });

  test('two are at work at once, the next waits and says so', async () => {
    const host = await newHost();
    const image = host.images.addImage('1.27', [3_000]);
    const gate = Promise.withResolvers<void>();
    host.images.beforeFetched = () => gate.promise;
    host.executor.tasks(['r-1', 'r-2', 'r-3'].map((rolloutId) => task(image, { rolloutId })));
    await host.until(() => host.progress('r-3').length > 0);
    expect(host.progress('r-3')[0]!.phase).toBe('waiting');
    expect(host.executor.status()).toHaveLength(2);
    gate.resolve();
    await host.ended(3);
    expect(host.results().every(({ ok }) => ok)).toBe(true);
  });

  test('a host that has nothing new to say says so every ten seconds', async () => {
    const host = await newHost();
    const image = host.images.addImage('1.27', [3_000]);
    const gate = Promise.withResolvers<void>();
    host.images.beforeFetched = () => gate.promise;
    host.executor.tasks([task(image)]);
    await host.until(() => host.progress().some(({ layers }) => layers !== undefined));
    await host.pass(1_000);
    const said = host.reports.length;
    for (let second = 0; second < 8; second++) await host.pass(1_000);
    expect(host.reports.length).toBe(said);
    await host.pass(2_000);
    expect(host.reports.length).toBe(said + 1);
    // The same list again may be another session's: the layers are told again.
    host.executor.tasks([task(image)]);
    await host.until(() => host.progress().filter(({ layers }) => layers !== undefined).length === 2);
    gate.resolve();
    await host.ended();
  });
});

describe('results', () => {
  test('are told again when the task is listed again, also after a restart, and nothing is done again', async () => {
    const host = await newHost();
    const image = host.images.addImage('1.27', [3_000]);
    host.executor.tasks([task(image)]);
    const first = await host.ended();
    await host.executor.close();
    const again = new Host(await Journal.open(dir));
    hosts.push(again);
    again.executor.tasks([task(image)]);
    expect(await again.ended()).toEqual(first);
    expect(again.images.fetched).toEqual([]);
  });

  test('a stop of the agent is no result', async () => {
    const host = await newHost();
    const image = host.images.addImage('1.27', [3_000]);
    const reached = Promise.withResolvers<void>();
    host.images.beforeFetched = (_digest, signal) => {
      reached.resolve();
      return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }));
    };
    host.executor.tasks([task(image)]);
    await reached.promise;
    await host.executor.close();
    expect(host.results()).toEqual([]);
    expect(host.journal.get(task(image))).toBeUndefined();
  });

  test('what this release does not know is refused', async () => {
    const host = await newHost();
    host.executor.tasks([task(host.images.addImage('1.27', [10]), { task: 'polish' })]);
    expect(await host.ended()).toMatchObject({ ok: false, error: { code: 'ROLLOUT_TASK_UNKNOWN' } });
  });
});

describe('the hook', () => {
  test('runs after the image is here, with its reference at this agent; what came of it is told', async () => {
    const host = await newHost({ exitCode: 0, ms: 5, output: 'pulled' });
    const image = host.images.addImage('1.27', [3_000]);
    host.executor.tasks([task(image)]);
    expect(await host.ended()).toMatchObject({ ok: true, hook: { exitCode: 0, output: 'pulled' } });
    expect(host.hooks).toEqual([{ reference: `127.0.0.1:5050/docker.io/library/nginx@${image.digest}`, image: 'docker.io/library/nginx:1.27', digest: image.digest }]);
    expect(host.progress().map(({ phase }) => phase)).toContain('hook');
  });

  test('that fails makes the host fail', async () => {
    const host = await newHost({ exitCode: 3, ms: 5, output: 'no such image' });
    host.executor.tasks([task(host.images.addImage('1.27', [3_000]))]);
    expect(await host.ended()).toMatchObject({ ok: false, error: { code: 'HOOK_FAILED', message: 'the hook ended with exit code 3' }, hook: { exitCode: 3, output: 'no such image' } });
  });

  test('does not run where nothing was rolled out', async () => {
    const host = await newHost({ exitCode: 0, ms: 5, output: '' });
    const image = host.images.addImage('1.27', [3_000]);
    host.images.store(image);
    host.executor.tasks([task(image, { task: 'verify' })]);
    await host.ended();
    host.images.beforeFetched = () => Promise.reject(new AgentError('DISK_FULL', 'no room'));
    host.executor.tasks([task(host.images.addImage('1.28', [3_000]), { rolloutId: 'r-2' })]);
    await host.ended(2);
    expect(host.hooks).toEqual([]);
  });
});

describe('verifying', () => {
  test('reads all of it and fetches nothing', async () => {
    const host = await newHost();
    const image = host.images.addImage('1.27', [3_000, 4_000]);
    host.images.store(image);
    host.images.faults.push(new AgentError('ORIGIN_UNREACHABLE', 'not to be asked'));
    host.executor.tasks([task(image, { task: 'verify' })]);
    expect(await host.ended()).toMatchObject({ ok: true, manifest: image.digest, bytes: { peer: 0, origin: 0 } });
    expect(host.images.faults).toHaveLength(1);
    expect(host.images.pins.size).toBe(0);
  });

  test.each([
    ['a manifest', (image: MadeImage) => image.digest],
    ['a layer', (image: MadeImage) => image.layers[1]!.digest],
  ])('%s that is missing is found', async (_, which) => {
    const host = await newHost();
    const image = host.images.addImage('1.27', [3_000, 4_000]);
    host.images.store(image);
    host.images.stored.delete(which(image));
    host.executor.tasks([task(image, { task: 'verify' })]);
    expect(await host.ended()).toMatchObject({ ok: false, error: { code: 'IMAGE_INCOMPLETE' } });
    expect(host.images.fetched).toEqual([]);
  });

  test('a byte that is wrong is found', async () => {
    const host = await newHost();
    const image = host.images.addImage('1.27', [3_000, 4_000]);
    host.images.store(image);
    host.images.stored.get(image.layers[2]!.digest)![3_999]! ^= 1;
    host.executor.tasks([task(image, { task: 'verify' })]);
    expect(await host.ended()).toMatchObject({ ok: false, error: { code: 'STORE_CORRUPT' } });
    expect(host.waits).toEqual([]);
  });
});
