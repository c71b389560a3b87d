import { expect, test } from 'vitest';
import { AgentError } from '../errors.ts';
import { denial, type Situation } from './denial.ts';

const APP = { origin: 'lab', repository: 'team/app' };
const refusal = new AgentError('ORIGIN_UNAUTHORIZED', 'lab answered 401', { detail: { status: 401, originCode: 'UNAUTHORIZED' } });
const agent: Situation = { mode: 'agent', allowed: false, credentials: false, listed: true, challenge: false };
const passing: Situation = { ...agent, mode: 'pass-through' };

test.each<[string, Situation, RegExp]>([
  ['no rule', agent, /only where a rule allows it \("allow: \[lab\/team\/app\]" in its settings, or FLOTILLA_ALLOW=lab\/team\/app\)$/],
  ['a rule, and credentials that do not do', { ...agent, allowed: true }, /^lab\/team\/app is not shown .*: this agent's own were refused, or it has none/],
  ['no credentials sent', passing, /: the caller sent none, and the agent asks for none \("challenge: true" would\)$/],
  ['no credentials sent although asked for', { ...passing, challenge: true }, /: the caller sent none$/],
  ['wrong credentials', { ...passing, credentials: true }, /: those of the caller were refused$/],
  ['an origin without a name', { ...passing, credentials: true, listed: false }, /only to origins with a name \(--origin lab=URL\)$/],
  ['both', { ...passing, credentials: true, allowed: true }, /: those of the caller were refused; this agent's own were refused/],
])('%s: what would have to change', (_, situation, message) => {
  const error = denial(APP, 'manifest', refusal, situation);
  expect(error.message).toMatch(message);
  expect(error).toMatchObject({ code: situation.challenge ? 'CREDENTIALS_WANTED' : 'ACCESS_DENIED', cause: refusal, detail: { ...APP, mode: situation.mode, originStatus: 401, originCode: 'UNAUTHORIZED' } });
});

test('404 in the words that clients go on after, never a challenge', () => {
  expect(denial(APP, 'manifest', refusal, agent).row).toMatchObject({ status: 404, oci: 'NAME_UNKNOWN' });
  expect(denial(APP, 'blob', refusal, passing).row).toMatchObject({ status: 404, oci: 'BLOB_UNKNOWN' });
  expect(denial(APP, 'blob', refusal, { ...agent, challenge: true }).row.status).toBe(404);
});

test('a challenge where the setting says so, except for origins to which nothing is passed on', () => {
  expect(denial(APP, 'blob', refusal, { ...passing, challenge: true }).row).toMatchObject({ status: 401, oci: 'UNAUTHORIZED' });
  expect(denial(APP, 'blob', refusal, { ...passing, challenge: true, listed: false }).row.status).toBe(404);
});
