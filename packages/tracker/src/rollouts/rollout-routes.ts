// The routes of rollouts (shared/rollout-api.ts has the contract), and what of rollouts goes into the audit log.

import { API_PREFIX } from '@flotilla/shared/tracker-api';
import { ROLLOUT_COMMANDS, ROLLOUT_ROUTES, RolloutDetail, RolloutHosts, RolloutHostsQuery, RolloutList, RolloutRequest, type RolloutCommand } from '@flotilla/shared/rollout-api';
import { Type } from 'typebox';
import type { Fleet } from '../fleet.ts';
import type { Logger } from '../log.ts';
import { operatorOf } from '../operators/guard.ts';
import type { Operators } from '../operators/operators.ts';
import type { App } from '../server.ts';

const MAX_BODY_BYTES = 16 * 1024;
const Params = Type.Object({ id: Type.String({ minLength: 1, maxLength: 32 }) });
const TAGS = ['rollouts'];
const SUMMARIES: Readonly<Record<RolloutCommand, string>> = {
  pause: 'Hold everything of a rollout until it is resumed',
  resume: 'Go on with a rollout that is paused',
  cancel: 'End a rollout for good',
  retry: 'Begin anew on the hosts that failed',
};

export function rolloutRoutes(app: App, fleet: Fleet, { guard, audit }: Operators): void {
  const { rollouts } = fleet;
  const path = (route: string): string => API_PREFIX + route.replace('%3A', ':');

  app.get(path(ROLLOUT_ROUTES.all), { ...guard('read'), schema: { summary: 'All rollouts that are kept, newest first', tags: TAGS, response: { 200: RolloutList } } }, () => ({ rollouts: rollouts.list(fleet.now()) }));

  app.post(
    path(ROLLOUT_ROUTES.all),
    { ...guard('operate'), bodyLimit: MAX_BODY_BYTES, schema: { summary: 'Have an image on these hosts', tags: TAGS, body: RolloutRequest, response: { 201: RolloutDetail } } },
    async (request, reply) => {
      const actor = operatorOf(request).name;
      const made = await rollouts.create(request.body, actor, fleet.now());
      await audit.record(actor, 'rollout.create', made.id, { image: made.image, hosts: made.hosts.total, selector: made.selector });
      return reply.code(201).send(made);
    },
  );

  app.get(path(ROLLOUT_ROUTES.one(':id')), { ...guard('read'), schema: { summary: 'One rollout', tags: TAGS, params: Params, response: { 200: RolloutDetail } } }, (request) =>
    rollouts.detail(request.params.id, fleet.now()),
  );

  app.get(
    path(ROLLOUT_ROUTES.hosts(':id')),
    { ...guard('read'), schema: { summary: "A rollout's hosts, a short row each", tags: TAGS, params: Params, querystring: RolloutHostsQuery, response: { 200: RolloutHosts } } },
    (request) => rollouts.hosts(request.params.id, fleet.now(), request.query),
  );

  const act = async (command: RolloutCommand, id: string, actor: string): Promise<RolloutDetail> => {
    const changed = await rollouts.command(id, command, actor, fleet.now());
    await audit.record(actor, `rollout.${command}`, id, { image: changed.image, state: changed.state });
    return changed;
  };
  for (const command of ROLLOUT_COMMANDS) {
    const schema = { summary: SUMMARIES[command], tags: TAGS, params: Params, response: { 200: RolloutDetail } };
    app.post(path(ROLLOUT_ROUTES.command(':id', command)), { ...guard('operate'), schema }, (request) => act(command, request.params.id, operatorOf(request).name));
  }
}

/** What rollouts do by themselves: they end, and stop when too many hosts fail. */
export function auditRollouts(fleet: Fleet, { audit }: Operators, log: Logger): void {
  fleet.rollouts.onMoved(({ id, image, from, to, reason }) => {
    log.info({ rollout: id, image, from, to, reason: reason?.code }, 'rollout moved');
    // An operator's pause is recorded with who asked for it.
    if (to === 'paused' ? reason === undefined : to !== 'done' && to !== 'expired') return;
    audit
      .record('tracker', `rollout.${to}`, id, { image, ...(reason !== undefined && { code: reason.code, reason: reason.message }) })
      .catch((error: unknown) => log.error({ error }, 'the audit log could not be written'));
  });
}
