import { expect, test } from 'vitest';
import type { Authority } from './ports.ts';
import { Sources, type SourceRight } from './sources.ts';

const ANONYMOUS: Authority = { kind: 'anonymous' };
const AGENT: Authority = { kind: 'agent' };

function right(authority: Authority, repository = 'team/app'): SourceRight {
  return { source: { origin: 'lab', repository, kind: 'blob' }, authority };
}

function caller(id: string, authorization = `Basic ${id}`): Authority {
  return { kind: 'caller', id, authorization };
}

/** All, the best first. */
function drain(sources: Sources): SourceRight[] {
  const all: SourceRight[] = [];
  for (let best = sources.best; best !== undefined; best = sources.best) {
    all.push(best);
    sources.refuse(best);
  }
  return all;
}

test('there is none before somebody is let in', () => {
  expect(new Sources().best).toBeUndefined();
});

test("nobody's right goes first, then the agent's, then the latest caller's", () => {
  const sources = new Sources();
  const rights = [right(caller('ann')), right(AGENT), right(caller('bob')), right(ANONYMOUS), right(AGENT, 'team/other')];
  for (const each of rights) sources.admit(each);
  expect(drain(sources)).toEqual([rights[3], rights[4], rights[1], rights[2], rights[0]]);
});

test('one and the same is held once, in its latest form', () => {
  const sources = new Sources();
  for (const token of ['Bearer 1', 'Bearer 2']) sources.admit(right(caller('ann', token)));
  sources.refuse(right(caller('bob')));
  expect(drain(sources)).toEqual([right(caller('ann', 'Bearer 2'))]);
});

test('of many callers the latest are held', () => {
  const sources = new Sources();
  for (let i = 0; i < 40; i++) sources.admit(right(caller(String(i))));
  expect(drain(sources).map(({ authority }) => (authority.kind === 'caller' ? authority.id : ''))).toEqual(Array.from({ length: 16 }, (_, i) => String(39 - i)));
});
