// The OpenAPI document of the operators' API, made from the schemas of the routes, at /api/v1/openapi.json.
//
// Every route under /api/v1 with a summary is in it; what agents say to the tracker has none and is not (docs/protocol.md tells that). The role of a
// route comes from its guard, so that the document cannot say otherwise. Read once: routes do not change.

import swagger from '@fastify/swagger';
import { OPERATOR_ROUTES } from '@flotilla/shared/operator-api';
import { API_PREFIX } from '@flotilla/shared/tracker-api';
import type { FastifySchema } from 'fastify';
import type { App } from './server.ts';
import { TRACKER_VERSION } from './version.ts';

const PROBLEM = {
  description: 'Refused: problem details (RFC 9457)',
  content: {
    'application/problem+json': {
      schema: {
        type: 'object',
        required: ['type', 'title', 'status', 'code', 'detail'],
        properties: { type: { type: 'string' }, title: { type: 'string' }, status: { type: 'integer' }, code: { type: 'string' }, detail: { type: 'string' } },
      },
    },
  },
};

/** Before the routes. */
export async function describeApi(app: App): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Flotilla tracker', version: TRACKER_VERSION, description: "The operators' API. Times are Unix milliseconds, rates bytes per second; refused requests get problem details." },
      components: {
        securitySchemes: {
          token: { type: 'http', scheme: 'bearer', description: 'A named token, such as the text of DIR/operator-token' },
          session: { type: 'apiKey', in: 'cookie', name: 'flotilla-…', description: 'The cookie of /sign-in; a change also has to come from a page of this origin' },
        },
      },
    },
    transform: ({ schema, url, route }) => {
      const { role } = route.config ?? {};
      const hidden = !url.startsWith(API_PREFIX) || schema?.summary === undefined;
      const own: FastifySchema = { ...schema, hide: hidden, response: { ...(schema?.response as object | undefined), '4XX': PROBLEM } };
      if (role !== undefined) Object.assign(own, { security: [{ token: [] }, { session: [] }], description: [schema?.description, `Role: ${role}.`].filter((part) => part !== undefined).join(' ') });
      return { schema: own, url };
    },
  });
  let document: string | undefined;
  app.get(API_PREFIX + OPERATOR_ROUTES.openapi, { schema: { summary: 'This document', tags: ['api'] } }, (_request, reply) => reply.type('application/json').send((document ??= JSON.stringify(app.swagger()))));
}
