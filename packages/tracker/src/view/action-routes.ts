// The routes of what operators change outside rollouts: members, the join token, brakes. Every change is in the audit log.

import { Brake, HOST_STATES } from '@flotilla/shared/live-api';
import { BanRequest, BrakeRequest, JoinTokenInfo, MemberList, OPERATOR_ROUTES, ReceivedFrom, type Member } from '@flotilla/shared/operator-api';
import { Type } from 'typebox';
import { TrackerError } from '../errors.ts';
import { operatorOf } from '../operators/guard.ts';
import type { App } from '../server.ts';
import { joinTokenFile, readJoinToken, rotateJoinToken } from '../tokens.ts';
import { brakeText } from './brake-text.ts';
import { routePath, type ViewRoutesParts } from './view-routes.ts';

const WEEK_MS = 7 * 24 * 60 * 60_000;
const MAX_BODY_BYTES = 4 * 1024;
const PeerParams = Type.Object({ peerId: Type.String({ minLength: 10, maxLength: 128 }) });
const IdParams = Type.Object({ id: Type.String({ minLength: 1, maxLength: 32 }) });
const MEMBERS = ['members'];
const BRAKES = ['brakes'];

export function actionRoutes(app: App, { fleet, view, operators }: ViewRoutesParts, dataDir: string): void {
  const { guard, audit } = operators;
  const nameOf = (peerId: string): string => view.hosts.find(peerId)?.info.name ?? '';

  app.get(routePath(OPERATOR_ROUTES.members), { ...guard('read'), schema: { summary: 'Enrolled hosts', tags: MEMBERS, response: { 200: MemberList } } }, () => {
    const nowMs = fleet.now();
    return {
      members: [...fleet.members.all()].map(({ peerId, reason, enrolledAtMs, seenAtMs }): Member => {
        const host = view.hosts.of(peerId);
        const { accusers, blobs } = fleet.swarms.blameOf(peerId);
        const { name, zone, version } = host.info;
        return { peerId, name, zone, version, state: HOST_STATES[view.stateOf(host, nowMs)]!, ...(reason !== undefined && { reason }), trusted: fleet.swarms.trusted(peerId), accusers: [...accusers], lies: blobs.length, enrolledAtMs, seenAtMs: Math.max(seenAtMs, host.heardAtMs) };
      }),
    };
  });

  for (const [state, route, action] of [
    ['expelled', OPERATOR_ROUTES.expel(':peerId'), 'member.expel'],
    ['quarantined', OPERATOR_ROUTES.quarantine(':peerId'), 'member.quarantine'],
  ] as const) {
    app.post(routePath(route), { ...guard('operate'), bodyLimit: MAX_BODY_BYTES, schema: { summary: state === 'expelled' ? 'Put a member out of the fleet' : 'Put a member into quarantine', tags: MEMBERS, params: PeerParams, body: BanRequest, response: { 204: Type.Null() } } }, async (request, reply) => {
      const { peerId } = request.params;
      const { reason } = request.body;
      if (!(await fleet.ban(peerId, state, reason, true))) throw new TrackerError('MEMBER_UNKNOWN', `${peerId} is not enrolled`);
      await audit.record(operatorOf(request).name, action, peerId, { reason, host: nameOf(peerId) });
      return reply.code(204).send(null);
    });
  }

  app.post(routePath(OPERATOR_ROUTES.readmit(':peerId')), { ...guard('operate'), schema: { summary: 'Take a ban back, with what was held against the member', tags: MEMBERS, params: PeerParams, response: { 204: Type.Null() } } }, async (request, reply) => {
    const { peerId } = request.params;
    if (!(await fleet.readmit(peerId))) throw new TrackerError('MEMBER_UNKNOWN', `${peerId} is not enrolled`);
    await audit.record(operatorOf(request).name, 'member.readmit', peerId, { host: nameOf(peerId) });
    return reply.code(204).send(null);
  });

  app.delete(routePath(OPERATOR_ROUTES.member(':peerId')), { ...guard('operate'), schema: { summary: 'Remove a host that is gone for good', tags: MEMBERS, params: PeerParams, response: { 204: Type.Null() } } }, async (request, reply) => {
    const { peerId } = request.params;
    const host = nameOf(peerId);
    if (!(await fleet.forget(peerId))) throw new TrackerError('MEMBER_UNKNOWN', `${peerId} is not enrolled`);
    await audit.record(operatorOf(request).name, 'member.remove', peerId, { host });
    return reply.code(204).send(null);
  });

  const received = async (peerId: string): Promise<ReceivedFrom> => {
    const { receivers, sinceMs, complete } = await view.history.receivedFrom(peerId);
    return {
      peerId,
      sinceMs: sinceMs ?? fleet.now() - WEEK_MS,
      complete,
      receivers: [...receivers].map(([receiver, { name, bytes, lastAtMs, images }]) => ({ peerId: receiver, name, bytes, lastAtMs, images: [...images] })).sort((a, b) => b.bytes - a.bytes),
    };
  };
  app.get(routePath(OPERATOR_ROUTES.received(':peerId')), { ...guard('read'), schema: { summary: 'Who got bytes from this member in the last 7 days', tags: MEMBERS, params: PeerParams, response: { 200: ReceivedFrom } } }, (request) => received(request.params.peerId));

  const joinToken = async (): Promise<JoinTokenInfo> => {
    const token = await readJoinToken(dataDir);
    if (token === undefined) throw new TrackerError('TOKEN_NONE', `${joinTokenFile(dataDir)} does not exist`);
    return { id: token.id, file: joinTokenFile(dataDir), ...(token.caPin !== undefined && { caPin: token.caPin }) };
  };
  app.get(routePath(OPERATOR_ROUTES.joinToken), { ...guard('admin'), schema: { summary: 'Which join token counts; its secret is only in the file', tags: MEMBERS, response: { 200: JoinTokenInfo } } }, joinToken);
  const rotate = async (actor: string): Promise<JoinTokenInfo> => {
    const { id } = await rotateJoinToken(dataDir);
    await audit.record(actor, 'join-token.rotate', id);
    return joinToken();
  };
  app.post(routePath(OPERATOR_ROUTES.joinToken), { ...guard('admin'), schema: { summary: 'Make a new join token; members stay members', tags: MEMBERS, response: { 200: JoinTokenInfo } } }, (request) => rotate(operatorOf(request).name));

  app.get(routePath(OPERATOR_ROUTES.brakes), { ...guard('read'), schema: { summary: 'Brakes that are on', tags: BRAKES, response: { 200: Type.Array(Brake) } } }, () => view.brakesWithReach());
  app.post(routePath(OPERATOR_ROUTES.brakes), { ...guard('operate'), bodyLimit: MAX_BODY_BYTES, schema: { summary: 'Hold hosts back for a while', tags: BRAKES, body: BrakeRequest, response: { 201: Brake } } }, async (request, reply) => {
    const actor = operatorOf(request).name;
    const { id } = await view.brakes.set(request.body, actor, fleet.now());
    view.brakesChanged(fleet.now());
    const brake = view.brakesWithReach().find((each) => each.id === id)!;
    await audit.record(actor, 'brake.set', id, { brake: brakeText(brake), reason: brake.reason, hosts: brake.hosts, untilMs: brake.untilMs });
    return reply.code(201).send(brake);
  });
  app.delete(routePath(OPERATOR_ROUTES.brake(':id')), { ...guard('operate'), schema: { summary: 'Release a brake before its time', tags: BRAKES, params: IdParams, response: { 204: Type.Null() } } }, async (request, reply) => {
    const brake = await view.brakes.release(request.params.id);
    view.brakesChanged(fleet.now());
    await audit.record(operatorOf(request).name, 'brake.release', brake.id, { brake: brakeText({ ...brake, hosts: 0 }) });
    return reply.code(204).send(null);
  });
}
