// Who gets what, row by row: what the endpoint answers to HEAD and GET of a manifest and a blob by digest.
//
//   repository  public: anybody may read it at the origin; private: ann, amy and the agent's own user may
//   mode        agent: its own credentials, no rule · rule: and a rule that allows the repository · rule?: but they are wrong · pass: the caller's
//   caller      which credentials it sends; `any`: it makes no difference, all three are tried
//   known       nothing: nobody has read it here · mine: this caller has, within the minute · old: this caller has, longer ago ·
//               other: somebody else has, within the minute (in pass amy, else the agent itself)
//   origin      what it answers now, to whomever: as it should, not at all, or one status
//
//   ok 200 · unknown 404, the origin does not have it · denied 404, with the code of a denial · down 503

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Endpoint, type EndpointInit } from './endpoint.ts';
import { image, type Image } from './token-origin.ts';

type Outcome = 'ok' | 'unknown' | 'denied' | 'down';
type Mode = 'agent' | 'rule' | 'rule?' | 'pass';
type Credentials = 'none' | 'right' | 'wrong';
type Known = 'nothing' | 'mine' | 'old' | 'other';
const ORIGINS = ['up', 'down', '404', '401', '403'] as const;
const QUESTIONS = [['HEAD', 'manifest'], ['GET', 'manifest'], ['HEAD', 'blob'], ['GET', 'blob']] as const;

// Each cell is what HEAD and what GET gets, of a manifest as of a blob.
const TABLE = `
  repository  mode   caller  known    | up             down       404              401            403

  public      agent  any     nothing  | ok ok          down down  unknown unknown  denied denied  denied denied
  public      agent  any     mine     | ok ok          ok ok      unknown ok       denied ok      denied ok
  public      agent  any     old      | ok ok          ok ok      unknown unknown  denied denied  denied denied
  public      agent  any     other    | ok ok          ok ok      unknown ok       denied ok      denied ok
  public      rule   any     nothing  | ok ok          down down  unknown unknown  denied denied  denied denied
  public      rule   any     mine     | ok ok          ok ok      unknown ok       denied ok      denied ok
  public      rule   any     old      | ok ok          ok ok      unknown unknown  denied denied  denied denied
  public      rule   any     other    | ok ok          ok ok      unknown ok       denied ok      denied ok
  public      rule?  any     nothing  | ok ok          down down  unknown unknown  denied denied  denied denied
  public      rule?  any     mine     | ok ok          ok ok      unknown ok       denied ok      denied ok
  public      rule?  any     old      | ok ok          ok ok      unknown unknown  denied denied  denied denied
  public      pass   any     nothing  | ok ok          down down  unknown unknown  denied denied  denied denied
  public      pass   any     mine     | ok ok          ok ok      unknown ok       denied ok      denied ok
  public      pass   any     old      | ok ok          ok ok      unknown unknown  denied denied  denied denied
  public      pass   any     other    | ok ok          ok ok      unknown ok       denied ok      denied ok

  private     agent  any     nothing  | denied denied  down down  unknown unknown  denied denied  denied denied
  private     agent  any     mine     | denied denied  down down  unknown unknown  denied denied  denied denied
  private     agent  any     old      | denied denied  down down  unknown unknown  denied denied  denied denied
  private     agent  any     other    | denied denied  down down  unknown unknown  denied denied  denied denied
  private     rule   any     nothing  | ok ok          down down  unknown unknown  denied denied  denied denied
  private     rule   any     mine     | ok ok          ok ok      unknown ok       denied ok      denied ok
  private     rule   any     old      | ok ok          ok ok      unknown unknown  denied denied  denied denied
  private     rule   any     other    | ok ok          ok ok      unknown ok       denied ok      denied ok
  private     rule?  any     nothing  | denied denied  down down  unknown unknown  denied denied  denied denied
  private     rule?  any     mine     | denied denied  down down  unknown unknown  denied denied  denied denied
  private     rule?  any     old      | denied denied  down down  unknown unknown  denied denied  denied denied
  private     pass   none    nothing  | denied denied  down down  unknown unknown  denied denied  denied denied
  private     pass   none    mine     | denied denied  down down  unknown unknown  denied denied  denied denied
  private     pass   none    old      | denied denied  down down  unknown unknown  denied denied  denied denied
  private     pass   none    other    | denied denied  down down  unknown unknown  denied denied  denied denied
  private     pass   wrong   nothing  | denied denied  down down  unknown unknown  denied denied  denied denied
  private     pass   wrong   mine     | denied denied  down down  unknown unknown  denied denied  denied denied
  private     pass   wrong   old      | denied denied  down down  unknown unknown  denied denied  denied denied
  private     pass   wrong   other    | denied denied  down down  unknown unknown  denied denied  denied denied
  private     pass   right   nothing  | ok ok          down down  unknown unknown  denied denied  denied denied
  private     pass   right   mine     | ok ok          ok ok      unknown ok       denied ok      denied ok
  private     pass   right   old      | ok ok          ok ok      unknown unknown  denied denied  denied denied
  private     pass   right   other    | ok ok          down down  unknown unknown  denied denied  denied denied
`;

interface Row {
  readonly repository: 'public' | 'private';
  readonly mode: Mode;
  readonly credentials: Credentials;
  readonly known: Known;
  /** By origin, then HEAD and GET. */
  readonly expected: readonly (readonly [Outcome, Outcome])[];
}

const rows: Row[] = TABLE.split('\n').filter((line) => line.includes('|')).slice(1).flatMap((line) => {
  const [repository, mode, caller, known, , ...cells] = line.trim().split(/\s+/) as [Row['repository'], Mode, Credentials | 'any', Known, '|', ...Outcome[]];
  const expected = ORIGINS.map((_, i) => [cells[2 * i]!, cells[2 * i + 1]!] as const);
  return (caller === 'any' ? (['none', 'right', 'wrong'] as const) : [caller]).map((credentials) => ({ repository, mode, credentials, known, expected }));
});

const RIGHT = 'ann:ann is right';
const CREDENTIALS: Readonly<Record<Credentials, string | undefined>> = { none: undefined, right: RIGHT, wrong: 'ann:a guess' };
const OTHER = 'amy:amy is right';
const OWN = { username: 'flotilla', password: 'the agent is right' };
const MODES: Readonly<Record<Mode, EndpointInit>> = {
  agent: { own: OWN },
  rule: { own: OWN, rules: { allow: ['*/private/**', '*/public/**'] } },
  'rule?': { own: { ...OWN, password: 'out of date' }, rules: { allow: ['**'] } },
  pass: { own: OWN, rules: { mode: 'pass-through' } },
};

test('the table has every row once', () => {
  const names = rows.map(({ repository, mode, credentials, known }) => `${repository} ${mode} ${credentials} ${known}`);
  const all = ['public', 'private'].flatMap((repository) =>
    Object.keys(MODES).flatMap((mode) =>
      Object.keys(CREDENTIALS).flatMap((credentials) =>
        // With wrong credentials the agent cannot have read anything itself.
        ['nothing', 'mine', 'old', ...(mode === 'rule?' ? [] : ['other'])].map((known) => `${repository} ${mode} ${credentials} ${known}`),
      ),
    ),
  );
  expect(names.toSorted()).toEqual(all.toSorted());
});

describe.each(Object.keys(MODES) as Mode[])('%s', (mode) => {
  const own = rows.filter((row) => row.mode === mode);
  let endpoint: Endpoint;
  beforeAll(async () => {
    // An origin that was found down is left alone for a while: each row has its own.
    endpoint = await Endpoint.start({ ...MODES[mode], names: own.map((_, i) => `down${i}`) });
    endpoint.origin.users.set('ann', RIGHT.slice(4)).set('amy', OTHER.slice(4)).set(OWN.username, OWN.password);
  });
  afterAll(() => endpoint[Symbol.asyncDispose]());

  test.each(own.map((row, i) => [`${row.repository}, credentials: ${row.credentials}, known: ${row.known}`, row, i] as const))('%s', async (_, row, index) => {
    const credentials = CREDENTIALS[row.credentials];
    const cases = ORIGINS.flatMap((origin, o) =>
      QUESTIONS.map(([method, kind], q) => ({
        method,
        kind,
        origin,
        expected: row.expected[o]![method === 'HEAD' ? 0 : 1],
        name: `${row.repository}/row${index}/${o}${q}`,
        at: origin === 'down' ? `down${index}` : 'lab',
        image: image(`${mode} ${index} ${o} ${q}`),
      })),
    );
    for (const { name, image: pushed } of cases) {
      endpoint.origin.repository(name, row.repository === 'public' ? 'anybody' : new Set(['ann', 'amy', OWN.username]));
      endpoint.origin.push(name, 'latest', pushed);
    }
    await Promise.all(cases.map(({ at, name, image: pushed }) => know(row, `${at}/${name}`, pushed)));
    if (row.known === 'old') endpoint.clock.nowMs += 60_001;
    const asked = endpoint.origin.asked.length;
    for (const { name, origin } of cases) endpoint.origin.answer(name, origin === 'up' ? undefined : origin === 'down' ? 'down' : Number(origin));

    const got = await Promise.all(
      cases.map(async ({ method, kind, at, name, image: pushed }) => {
        const reply = kind === 'manifest' ? await endpoint.manifest(method, `${at}/${name}`, pushed.manifest, credentials) : await endpoint.blob(method, `${at}/${name}`, pushed.layer, credentials);
        const bytes = pushed.bytes.get(kind === 'manifest' ? pushed.manifest : pushed.layer)!;
        expect(reply.headers['www-authenticate']).toBeUndefined();
        if (reply.status === 200) {
          expect(reply.headers['content-length']).toBe(String(bytes.length));
          if (method === 'GET') expect(reply.body.equals(bytes)).toBe(true);
        } else expect(reply.body.includes(bytes.subarray(0, 64))).toBe(false);
        // HEAD says the status only.
        return { method, status: reply.status, outcome: outcomeOf(reply.status, reply.code, method) };
      }),
    );
    const shown = (i: number): string => `origin ${cases[i]!.origin}: ${cases[i]!.method} ${cases[i]!.kind}`;
    expect(got.map(({ outcome }, i) => `${shown(i)} ${outcome}`)).toEqual(cases.map(({ expected, method }, i) => `${shown(i)} ${method === 'HEAD' && expected === 'denied' ? 'unknown' : expected}`));

    if (mode !== 'pass') {
      // Nothing that a caller sends goes anywhere.
      const sent = endpoint.origin.asked.slice(asked).map(({ authorization = '' }) => authorization.startsWith('Basic') && Buffer.from(authorization.slice(6), 'base64').toString());
      expect(sent.filter((text) => text !== false && !text.startsWith(`${OWN.username}:`))).toEqual([]);
    }
  });

  /** Brings about what the row takes to be known. */
  async function know(row: Row, name: string, { layer }: Image): Promise<void> {
    if (row.known === 'nothing') return;
    if (row.known !== 'other') {
      const let_ = row.repository === 'public' || mode === 'rule' || (mode === 'pass' && row.credentials === 'right');
      expect(await endpoint.pull(name, 'latest', layer, CREDENTIALS[row.credentials])).toBe(let_);
    } else if (mode === 'pass') expect(await endpoint.pull(name, 'latest', layer, OTHER)).toBe(true);
    else {
      const [origin = '', ...path] = name.split('/');
      await endpoint.pullAsAgent({ origin, repository: path.join('/') }, 'latest', layer);
    }
  }
});

function outcomeOf(status: number, code: string | undefined, method: string): string {
  if (status === 200) return 'ok';
  if (status === 503) return 'down';
  if (status !== 404) return String(status);
  if (method === 'HEAD') return 'unknown';
  return code === 'MANIFEST_UNKNOWN' || code === 'BLOB_UNKNOWN' ? 'unknown' : code === 'ACCESS_DENIED' || code === 'BLOB_DENIED' ? 'denied' : (code ?? 'no code');
}
