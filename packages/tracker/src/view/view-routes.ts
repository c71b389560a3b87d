// The routes of what operators see: the live stream, the same once, and the pages (shared/operator-api.ts and live-api.ts have the contract).

import { ImagePage, ImagesQuery, OPERATOR_ROUTES, PullPage, PullsQuery, Pull, SearchQuery, SearchResult, Timeline, TimelineQuery } from '@flotilla/shared/operator-api';
import { FleetSnapshot, HostDetail, HostsSnapshot, ImageSnapshot, MAX_LIVE_TOPICS, SwarmLive } from '@flotilla/shared/live-api';
import { API_PREFIX } from '@flotilla/shared/tracker-api';
import type { ServerResponse } from 'node:http';
import { Type } from 'typebox';
import { TrackerError, type ErrorCode } from '../errors.ts';
import type { Fleet } from '../fleet.ts';
import type { Operators } from '../operators/operators.ts';
import type { App } from '../server.ts';
import { ImagePages } from './image-pages.ts';
import type { LiveStream } from './live.ts';
import { search } from './search.ts';
import { timeline } from './timeline.ts';
import type { View } from './view.ts';

const LiveQuery = Type.Object({ topics: Type.String({ minLength: 1, maxLength: 2048 }) });
const DigestParams = Type.Object({ digest: Type.String({ minLength: 1, maxLength: 160 }) });
const PeerParams = Type.Object({ peerId: Type.String({ minLength: 1, maxLength: 128 }) });
const IdParams = Type.Object({ id: Type.String({ minLength: 1, maxLength: 64 }) });
const TAGS = ['view'];

export interface ViewRoutesParts {
  readonly fleet: Fleet;
  readonly view: View;
  readonly operators: Operators;
}

/** A route of OPERATOR_ROUTES with a parameter, as fastify writes it. */
export function routePath(route: string): string {
  return API_PREFIX + route.replace('%3A', ':');
}

export function viewRoutes(app: App, { fleet, view, operators }: ViewRoutesParts): void {
  const { guard, audit } = operators;
  const now = (): number => fleet.now();
  const images = new ImagePages(view.catalogue, fleet.swarms);

  /** JSON that is made already: the schema of the answer is for its readers alone. */
  const once = (reply: { type(contentType: string): unknown }, topic: string, missing: ErrorCode): never => {
    const text = view.live.once(topic, now());
    if (text === undefined) throw new TrackerError(missing, topic.slice(topic.indexOf(':') + 1));
    reply.type('application/json');
    return text as never;
  };

  app.get(
    routePath(OPERATOR_ROUTES.live),
    { ...guard('read'), schema: { summary: 'Server-sent events of topics, such as topics=fleet,hosts', description: 'Events snapshot, delta and gone; live-api.ts of the source has their shapes.', tags: TAGS, querystring: LiveQuery, produces: ['text/event-stream'] } },
    (request, reply) => {
      const topics = [...new Set(request.query.topics.split(','))];
      if (topics.length > MAX_LIVE_TOPICS) throw new TrackerError('TOPICS_INVALID', `${topics.length} topics`);
      const { raw } = reply;
      const stream = streamTo(raw, () => operators.identify(request) !== undefined);
      // What is wrong with the topics is said before the answer begins.
      const leave = view.live.listen(topics, stream.begin, now());
      reply.hijack();
      stream.open();
      raw.on('close', leave);
      raw.on('error', (error) => request.log.debug({ error }, 'live stream broke'));
      if (raw.destroyed) leave();
    },
  );

  app.get(routePath(OPERATOR_ROUTES.fleet), { ...guard('read'), schema: { summary: 'The fleet now, and its throughput of the last hour', tags: TAGS, response: { 200: FleetSnapshot } } }, (_request, reply) => once(reply, 'fleet', 'INTERNAL'));
  app.get(routePath(OPERATOR_ROUTES.hosts), { ...guard('read'), schema: { summary: 'All hosts, a short row each', tags: TAGS, response: { 200: HostsSnapshot } } }, (_request, reply) => once(reply, 'hosts', 'INTERNAL'));
  app.get(routePath(OPERATOR_ROUTES.host(':peerId')), { ...guard('read'), schema: { summary: 'One host', tags: TAGS, params: PeerParams, response: { 200: HostDetail } } }, (request, reply) =>
    once(reply, `host:${request.params.peerId}`, 'HOST_UNKNOWN'),
  );
  app.get(routePath(OPERATOR_ROUTES.image(':digest')), { ...guard('read'), schema: { summary: 'How far every host is with an image', tags: TAGS, params: DigestParams, response: { 200: ImageSnapshot } } }, (request, reply) =>
    once(reply, `image:${request.params.digest}`, 'IMAGE_UNKNOWN'),
  );
  app.get(routePath(OPERATOR_ROUTES.swarm(':digest')), { ...guard('read'), schema: { summary: 'The swarm of a blob', tags: TAGS, params: DigestParams, response: { 200: SwarmLive } } }, (request, reply) =>
    once(reply, `swarm:${request.params.digest}`, 'SWARM_UNKNOWN'),
  );

  app.get(routePath(OPERATOR_ROUTES.images), { ...guard('read'), schema: { summary: 'Images that the fleet holds', tags: TAGS, querystring: ImagesQuery, response: { 200: ImagePage } } }, (request) => images.page(request.query));

  app.get(routePath(OPERATOR_ROUTES.pulls), { ...guard('read'), schema: { summary: 'Finished pulls of the last 7 days, newest first', tags: TAGS, querystring: PullsQuery, response: { 200: PullPage } } }, (request) => view.history.find(request.query));
  app.get(routePath(OPERATOR_ROUTES.pull(':id')), { ...guard('read'), schema: { summary: 'One finished pull', tags: TAGS, params: IdParams, response: { 200: Pull } } }, (request) => view.history.known(request.params.id));

  app.get(routePath(OPERATOR_ROUTES.timeline), { ...guard('read'), schema: { summary: 'What changed when, over the throughput', tags: TAGS, querystring: TimelineQuery, response: { 200: Timeline } } }, (request) => timeline(request.query, audit, view.series, now()));

  app.get(routePath(OPERATOR_ROUTES.search), { ...guard('read'), schema: { summary: 'Hosts, images, blobs, pulls, rollouts and requests by what is at hand', tags: TAGS, querystring: SearchQuery, response: { 200: SearchResult } } }, (request) => search(request.query.q, view, fleet));
}

/**
 * Events as bytes of one response. What is written before `open` is kept: a topic that does not exist can still be refused.
 * @param allowed whether who listens may still
 */
function streamTo(raw: ServerResponse, allowed: () => boolean): { readonly begin: LiveStream; open(): void } {
  let waiting: Uint8Array[] | undefined = [];
  return {
    begin: {
      get queuedBytes() {
        return raw.writableLength;
      },
      allowed,
      write: (bytes) => {
        if (waiting === undefined) raw.write(bytes);
        else waiting.push(bytes);
      },
      end: () => {
        raw.destroy();
      },
    },
    open: () => {
      raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
      for (const bytes of waiting ?? []) raw.write(bytes);
      waiting = undefined;
    },
  };
}

