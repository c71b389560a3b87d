import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Authority, Permit } from '../content/ports.ts';
import { AgentError } from '../errors.ts';
import { APP, blob, caller, DAY_MS, digestOf, lets, OTHER, TestRights, unauthorized, unreachable } from './test-rights.ts';

const ann = caller('ann:open sesame');
const bob = caller('bob:hunter2');
const nobody = caller();

let at: TestRights;
beforeEach(async () => {
  at = await TestRights.open({ mode: 'pass-through' });
});
afterEach(() => at[Symbol.asyncDispose]());

/** Whose right the digest is granted with, without a question. */
async function granted(who: typeof ann, n: number, repository = APP): Promise<string | undefined> {
  return (await at.rights.granted(repository, 'blob', digestOf(n), who))?.permit.authority?.kind;
}

async function asked(who: typeof ann, allowed: readonly string[], repository = APP): Promise<{ tried: string[]; permit?: Permit; error?: unknown }> {
  const tried: string[] = [];
  const answer = lets(...allowed);
  try {
    const { permit } = await at.rights.ask(repository, who, 'blob', (authority) => {
      tried.push(authority.kind);
      return answer(authority);
    });
    return { tried, permit };
  } catch (error) {
    return { tried, error };
  }
}

describe('asking the origin', () => {
  test("begins with nobody's right, which makes the repository a public one", async () => {
    expect(await asked(ann, ['anonymous', ann.authorization!])).toEqual({ tried: ['anonymous'], permit: { repository: APP, authority: { kind: 'anonymous' }, private: false } });
    expect(await asked(nobody, ['anonymous'])).toMatchObject({ tried: ['anonymous'] });
    expect(at.outcomes).toEqual(['public', 'public']);
  });

  test("goes on to the caller's, and begins with it for a minute", async () => {
    expect(await asked(ann, [ann.authorization!])).toMatchObject({ tried: ['anonymous', 'caller'], permit: { authority: { kind: 'caller', authorization: ann.authorization }, private: true } });
    expect(await asked(ann, [ann.authorization!])).toMatchObject({ tried: ['caller'] });
    expect(await asked(bob, [ann.authorization!])).toMatchObject({ tried: ['anonymous', 'caller'], error: { code: 'BLOB_DENIED', cause: unauthorized } });
    at.nowMs += 60_000;
    expect(await asked(ann, [ann.authorization!])).toMatchObject({ tried: ['anonymous', 'caller'] });
    expect(at.outcomes).toEqual(['caller', 'caller', 'denied', 'caller']);
  });

  test("an agent that has no credentials has nobody's right", async () => {
    await at.restart({ mode: 'agent', allow: ['lab/**'] });
    const { permit } = await at.rights.ask(APP, nobody, 'blob', async (authority) => {
      if (authority.kind === 'anonymous') throw new AgentError('ORIGIN_THROTTLED', '429');
      return { right: { anonymous: true, lifetimeMs: undefined } };
    });
    expect(permit).toEqual({ repository: APP, authority: { kind: 'anonymous' }, private: false });
  });

  test('a refusal takes back what was allowed, for that credential alone', async () => {
    await at.letIn(ann);
    await at.letIn(bob);
    await asked(ann, []);
    expect(await at.rights.whileDown(APP, ann, unreachable)).toBeUndefined();
    expect(await at.rights.whileDown(APP, bob, unreachable)).toBeDefined();
  });

  test('a repository that is not there is a refusal too', async () => {
    await at.letIn(ann);
    const gone = new AgentError('REPOSITORY_UNKNOWN', '404', { detail: { status: 404, originCode: 'NAME_UNKNOWN' } });
    await expect(at.rights.ask(APP, ann, 'manifest', () => Promise.reject(gone))).rejects.toBe(gone);
    expect(await at.rights.whileDown(APP, ann, unreachable)).toBeUndefined();
  });

  describe('that says that it has no such digest', () => {
    const unknown = new AgentError('BLOB_UNKNOWN', '404', { detail: { status: 404 } });
    async function deny(who: typeof ann, has: (authority: Authority) => boolean = () => false): Promise<{ tried: string[]; forgotten: number; error: unknown }> {
      const tried: string[] = [];
      let forgotten = 0;
      const error: unknown = await at.rights
        .ask(
          APP,
          who,
          'blob',
          (authority) => {
            tried.push(authority.kind);
            return has(authority) ? Promise.resolve({ right: { anonymous: false, lifetimeMs: undefined } }) : Promise.reject(unknown);
          },
          async () => {
            forgotten++;
          },
        )
        .then(() => undefined, (thrown: unknown) => thrown);
      return { tried, forgotten, error };
    }

    test('to one that it lets in, is believed', async () => {
      await at.letIn(ann);
      expect(await deny(ann)).toEqual({ tried: ['caller'], forgotten: 1, error: unknown });
    });

    test('to one that it lets in no more, perhaps, is asked with the next right', async () => {
      await at.letIn(ann);
      at.nowMs += 60_000;
      expect(await deny(ann, ({ kind }) => kind === 'caller')).toEqual({ tried: ['anonymous', 'caller'], forgotten: 0, error: undefined });
      expect(at.outcomes.at(-1)).toBe('caller');
    });

    test('to a stranger, ends nothing for others', async () => {
      await at.letIn(ann);
      expect(await deny(bob)).toEqual({ tried: ['anonymous', 'caller'], forgotten: 0, error: unknown });
      expect(at.outcomes.at(-1)).toBe('unknown');
    });
  });

  test('what may be due to who asks is tried with the next right; what is not, is not', async () => {
    const throttled = new AgentError('ORIGIN_THROTTLED', '429');
    const tokens = (status: number): AgentError => new AgentError('ORIGIN_AUTH_FAILED', 'no token', { detail: { status } });
    for (const [failure, tries] of [[throttled, 2], [tokens(400), 2], [tokens(500), 1], [unreachable, 1]] as const) {
      let count = 0;
      const asking = at.rights.ask(APP, ann, 'blob', () => {
        count++;
        return Promise.reject(failure);
      });
      await expect(asking).rejects.toBe(failure);
      expect(count).toBe(tries);
    }
  });

  test("a name's origin that nobody configured is handed no credentials", async () => {
    const evil = { origin: 'evil.example', repository: 'x' };
    expect(await asked(ann, [ann.authorization!], evil)).toMatchObject({ tried: ['anonymous'], error: { code: 'BLOB_DENIED' } });
  });
});

describe('a grant without a question', () => {
  test("is the origin's own answer to this caller, for a minute", async () => {
    await at.rights.confirm(await at.letIn(ann), blob(1));
    await at.letIn(bob);
    expect(await granted(ann, 1)).toBe('caller');
    expect(await granted(bob, 1)).toBeUndefined();
    expect(await granted(nobody, 1)).toBeUndefined();
    expect(await granted(ann, 2)).toBeUndefined();
    await at.letIn(ann, OTHER);
    expect(await granted(ann, 1, OTHER)).toBeUndefined();
    at.nowMs += 59_999;
    expect(await granted(ann, 1)).toBe('caller');
    at.nowMs += 1;
    expect(await granted(ann, 1)).toBeUndefined();
  });

  test('holds no longer than the token', async () => {
    await at.rights.confirm(await at.letIn(ann, APP, { lifetimeMs: 5000 }), blob(1));
    at.nowMs += 4999;
    expect(await granted(ann, 1)).toBe('caller');
    at.nowMs += 1;
    expect(await granted(ann, 1)).toBeUndefined();
    await at.letIn(ann);
    expect(await granted(ann, 1)).toBe('caller');
  });

  test('is a manifest of the repository that refers to it, for whoever is let into the repository', async () => {
    await at.rights.imply(APP, [blob(1)], at.nowMs);
    expect(await granted(ann, 1)).toBeUndefined();
    await at.letIn(ann);
    await at.letIn(bob);
    expect([await granted(ann, 1), await granted(bob, 1), await granted(nobody, 1)]).toEqual(['caller', 'caller', undefined]);
    expect(await granted(ann, 1, OTHER)).toBeUndefined();
  });

  test('is as old as the manifest', async () => {
    await at.letIn(ann);
    await at.rights.imply(APP, [blob(1)], at.nowMs - 59_000);
    at.nowMs += 1000;
    expect(await granted(ann, 1)).toBe('caller');
    at.nowMs += 1;
    expect(await granted(ann, 1)).toBeUndefined();
    await at.rights.imply(APP, [blob(1)], at.nowMs - 60_000);
    expect(await granted(ann, 1)).toBe('caller');
  });

  test('of a repository that is public is for all', async () => {
    await at.rights.confirm(await at.letIn(nobody), blob(1));
    expect([await granted(nobody, 1), await granted(bob, 1)]).toEqual(['anonymous', 'anonymous']);
  });

  test("ends with the origin's word that it is gone; an older manifest does not bring it back", async () => {
    const permit = await at.letIn(ann);
    await at.rights.imply(APP, [blob(1)], at.nowMs);
    at.nowMs += 10;
    await at.rights.forget(APP, 'blob', digestOf(1));
    await at.rights.imply(APP, [blob(1)], at.nowMs - 10);
    expect(await granted(ann, 1)).toBeUndefined();
    expect(await at.rights.known(APP, 'blob', digestOf(1))).toBeUndefined();
    await at.rights.imply(APP, [blob(1)], at.nowMs + 1);
    expect(await granted(ann, 1)).toBe('caller');
    await at.rights.forget(APP, 'blob', digestOf(1));
    await at.rights.confirm(permit, blob(1));
    expect(await granted(ann, 1)).toBe('caller');
  });

  test('does not survive a restart', async () => {
    await at.rights.confirm(await at.letIn(ann), blob(1));
    await at.restart();
    expect(await granted(ann, 1)).toBeUndefined();
  });
});

describe('a digest that came here with credentials', () => {
  const here = { ...APP, kind: 'blob', private: true } as const;

  test('is nothing known where another repository only refers to it, until the origin has answered there', async () => {
    await at.rights.reading(here, digestOf(1));
    const permit = await at.letIn(nobody, OTHER);
    await at.rights.imply(OTHER, [blob(1), blob(2)], at.nowMs);
    expect([await granted(nobody, 1, OTHER), await granted(nobody, 2, OTHER)]).toEqual([undefined, 'anonymous']);
    expect(await at.rights.known(OTHER, 'blob', digestOf(1))).toBeUndefined();
    await at.rights.confirm(permit, blob(1));
    expect(await granted(nobody, 1, OTHER)).toBe('anonymous');
  });

  test('stays so over a restart, and is served where it was read', async () => {
    await at.rights.reading(here, digestOf(1));
    await at.rights.imply(APP, [blob(1)], at.nowMs);
    await at.rights.imply(OTHER, [blob(1)], at.nowMs);
    at.nowMs += 400 * DAY_MS;
    await at.rights.imply(APP, [blob(1)], at.nowMs);
    await at.rights.imply(OTHER, [blob(1)], at.nowMs);
    await at.restart();
    await at.letIn(ann);
    await at.letIn(ann, OTHER);
    expect([await granted(ann, 1), await granted(ann, 1, OTHER)]).toEqual(['caller', undefined]);
  });

  test('out of many repositories is asked for again in the earliest', async () => {
    for (let i = 0; i < 20; i++) await at.rights.reading({ ...here, repository: `r${i}` }, digestOf(1));
    const place = (i: number): typeof APP => ({ origin: 'lab', repository: `r${i}` });
    for (const i of [0, 4, 19]) {
      await at.letIn(ann, place(i));
      await at.rights.imply(place(i), [blob(1)], at.nowMs);
    }
    expect(await Promise.all([0, 4, 19].map((i) => granted(ann, 1, place(i))))).toEqual([undefined, 'caller', 'caller']);
  });

  test('out of a public repository is no secret', async () => {
    await at.rights.reading({ ...APP, kind: 'blob' }, digestOf(1));
    await at.letIn(nobody, OTHER);
    await at.rights.imply(OTHER, [blob(1)], at.nowMs);
    expect(await granted(nobody, 1, OTHER)).toBe('anonymous');
  });
});

describe('while the origin is down', () => {
  const while_ = (who: typeof ann, failure = unreachable): Promise<Permit | undefined> => at.rights.whileDown(APP, who, failure);

  test('same-repository: whoever was allowed the repository keeps it, over a restart', async () => {
    await at.letIn(ann);
    await at.restart();
    at.nowMs += 20 * DAY_MS;
    expect(await while_(ann)).toMatchObject({ authority: { kind: 'caller', authorization: ann.authorization }, private: true });
    expect(await while_(bob)).toBeUndefined();
    expect(await while_(nobody)).toBeUndefined();
    expect(await at.rights.whileDown(OTHER, ann, unreachable)).toBeUndefined();
    expect(at.outcomes.slice(1)).toEqual(['down-kept', 'down-denied', 'down-denied', 'down-denied']);
  });

  test('same-repository: a public one is for all', async () => {
    await at.letIn(nobody);
    await at.restart();
    expect(await while_(bob)).toEqual({ repository: APP, authority: { kind: 'anonymous' }, private: false });
  });

  test("a caller's token is kept as long as it lives, and not over a restart", async () => {
    const token = { authorization: 'Bearer abc', asksOrigin: false };
    await at.letIn(token, APP, { lifetimeMs: 30_000 });
    at.nowMs += 29_999;
    expect(await while_(token)).toBeDefined();
    at.nowMs += 1;
    expect(await while_(token)).toBeUndefined();
    await at.letIn(token);
    await at.restart();
    expect(await while_(token)).toBeUndefined();
  });

  test('a rule that was taken back gives nothing', async () => {
    await at.restart({ mode: 'agent', allow: ['lab/**'] });
    await asked(nobody, ['agent']);
    expect(await while_(nobody)).toMatchObject({ authority: { kind: 'agent' } });
    await at.restart({ allow: [] });
    expect(await while_(nobody)).toBeUndefined();
  });

  test('allow: anybody, with no right at the origin; but a token server that fails for somebody is not down', async () => {
    await at.restart({ originDown: 'allow' });
    await at.letIn(ann);
    expect(await while_(ann)).toMatchObject({ authority: { kind: 'caller' } });
    expect(await while_(bob)).toEqual({ repository: APP, authority: undefined, private: true });
    expect(await while_(bob, new AgentError('ORIGIN_AUTH_FAILED', 'no token'))).toBeUndefined();
    expect(at.outcomes.slice(1)).toEqual(['down-kept', 'down-allowed', 'down-denied']);
  });

  test('deny: nobody', async () => {
    await at.restart({ originDown: 'deny' });
    await at.letIn(ann);
    expect(await while_(ann)).toBeUndefined();
  });

  test('the fleet is asked about what is not known to be private', async () => {
    const ask = (who: typeof ann): Promise<boolean> => at.rights.mayAskFleet(APP, who);
    expect([await ask(nobody), await ask(ann)]).toEqual([true, false]);
    await at.letIn(nobody);
    expect(await ask(ann)).toBe(true);
    await at.restart({ originDown: 'deny' });
    expect(await ask(nobody)).toBe(false);
    await at.restart({ originDown: 'same-repository', tellPrivateNames: true });
    expect(await at.rights.mayAskFleet(OTHER, ann)).toBe(true);
    await at.restart({ mode: 'agent', allow: ['lab/**'], tellPrivateNames: false });
    expect(await at.rights.mayAskFleet(OTHER, nobody)).toBe(false);
  });
});

test('the tracker may hear the name of what is not known to be private, and of what it has named itself', async () => {
  const may = (who: typeof ann): Promise<boolean> => at.rights.mayName(APP, who);
  const own = { authorization: undefined, asksOrigin: false, own: true } as const;
  expect([await may(nobody), await may(ann), await may(own), await may({ ...own, named: true })]).toEqual([true, false, false, true]);
  await at.letIn(nobody);
  expect([await may(ann), await may(own)]).toEqual([true, true]);
  await at.restart({ originDown: 'deny' });
  expect(await may(nobody)).toBe(true);
});

describe('what is kept', () => {
  test('on disk holds no credential, in no spelling', async () => {
    const token = { authorization: 'Bearer a-token-of-ann', asksOrigin: false };
    for (const who of [ann, bob, token]) await at.rights.confirm(await at.letIn(who), blob(1));
    await at.rights.reading({ ...APP, kind: 'blob', private: true }, digestOf(1));
    await at.rights.close();
    const files = await readdir(at.dir);
    const kept = Buffer.concat(await Promise.all(files.map((file) => readFile(join(at.dir, file)))));
    expect(kept.includes('team/app')).toBe(true);
    for (const secret of ['open sesame', 'hunter2', 'ann:', ann.authorization!.slice(6), bob.authorization!.slice(6), 'a-token-of-ann']) {
      expect(kept.includes(secret), secret).toBe(false);
    }
    await at.restart();
  });

  test('is forgotten after a month without use, also while running', async () => {
    const permit = await at.letIn(ann);
    await at.rights.confirm(permit, blob(1));
    await at.rights.resolved(permit, 'old', { digest: digestOf(9), size: 9, mediaType: 'x' });
    at.nowMs += 31 * DAY_MS;
    await at.rights.resolved(permit, 'new', { digest: digestOf(8), size: 8, mediaType: 'x' });
    at.tick();
    while ((await at.rights.known(APP, 'blob', digestOf(1))) !== undefined);
    await at.restart();
    expect(await at.rights.whileDown(APP, ann, unreachable)).toBeUndefined();
    expect(await at.rights.facts.lastResolution(APP, 'old')).toBeUndefined();
    expect(await at.rights.facts.lastResolution(APP, 'new')).toEqual({ digest: digestOf(8), size: 8, mediaType: 'x' });
    expect(await at.rights.known(APP, 'manifest', digestOf(8))).toMatchObject({ size: 8, confirmed: true });
  });

  test('a consent that is repeated stays', async () => {
    await at.letIn(ann);
    for (let day = 0; day < 40; day++) {
      at.nowMs += DAY_MS;
      await at.letIn(ann);
    }
    await at.restart();
    expect(await at.rights.whileDown(APP, ann, unreachable)).toBeDefined();
  });

  test('of size and type is what the origin said, not what a manifest says', async () => {
    await at.rights.confirm(await at.letIn(ann), blob(1));
    await at.rights.imply(APP, [{ ...blob(1), size: 77 }], at.nowMs);
    await at.rights.imply(APP, [{ ...blob(2), size: 77 }], at.nowMs);
    expect(await at.rights.known(APP, 'blob', digestOf(1))).toMatchObject({ size: 1, impliedAtMs: at.nowMs });
    expect(await at.rights.known(APP, 'blob', digestOf(2))).toMatchObject({ size: 77, confirmed: false });
    await at.rights.confirm(await at.letIn(ann), blob(2));
    expect(await at.rights.known(APP, 'blob', digestOf(2))).toMatchObject({ size: 2, confirmed: true, impliedAtMs: at.nowMs });
  });

  test('on a disk that takes no notes is in memory alone, and said so', async () => {
    const permit = await at.letIn(ann);
    await at.rights.close();
    expect(await at.rights.confirm(permit, blob(1))).toMatchObject({ ...blob(1), confirmed: true });
    await at.rights.imply(APP, [blob(2)], at.nowMs);
    expect(await at.letIn(bob)).toMatchObject({ private: true });
    // The fact, the reference, that nobody's right was refused, that bob's was not.
    expect(at.unnoted.length).toBe(4);
    await at.restart();
  });
});

test('an origin that nobody configured has to show what it has, once, at a place of this agent\'s choice', async () => {
  const [lab, evil] = [APP, { origin: 'evil.example', repository: 'x' }].map((repository) => ({ repository, authority: { kind: 'anonymous' as const }, private: false }));
  const fact = await at.rights.confirm(evil!, blob(1));
  expect(at.rights.needsProof(lab!, fact)).toBe(false);
  expect(at.rights.needsProof(evil!, fact)).toBe(true);
  const place = at.rights.sampleAt(evil!, fact);
  expect(place).toBeGreaterThanOrEqual(0);
  expect(place).toBeLessThan(1);
  expect(at.rights.sampleAt(evil!, fact)).toBe(place);
  expect(at.rights.sampleAt(evil!, { ...fact, digest: digestOf(2) })).not.toBe(place);
  await at.rights.proven(evil!, fact);
  await at.restart();
  expect(at.rights.needsProof(evil!, (await at.rights.known(evil!.repository, 'blob', digestOf(1)))!)).toBe(false);
});
