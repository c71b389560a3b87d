// The dashboard's files at /: built by Vite into web/dist (scripts/dashboard.mjs), the same for everybody; what they show needs a sign-in at the API.
//
//   /assets/…  named by their content: kept for a year      every other address that a browser opens: the page itself, never kept
//
// The page may load from this tracker alone and run no script but its own files (CSP), in no frame. A tracker without a built dashboard says so at /.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fastifyStatic from '@fastify/static';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { App } from './server.ts';

/** Where the build lies in the checkout. */
const BUILT = fileURLToPath(new URL('../web/dist', import.meta.url));
const NOT_BUILT = "The dashboard is not built. Run `npm run setup` in Flotilla's checkout, and restart the tracker.\n";
const ASSETS = '/assets/';

const HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=(), payment=(), usb=()',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
};

export interface Dashboard {
  /** Answers what no route knew with the page. @returns false: it was not a page that was asked for */
  readonly show: (request: FastifyRequest, reply: FastifyReply) => Promise<boolean>;
}

/** @param folder of the built page. @default the checkout's own */
export async function dashboard(app: App, folder: string = BUILT): Promise<Dashboard> {
  const built = existsSync(join(folder, 'index.html'));
  if (built) {
    await app.register(fastifyStatic, { root: join(folder, ASSETS), prefix: ASSETS, index: false, immutable: true, maxAge: '365d', setHeaders: (reply) => void reply.headers(HEADERS) });
  }
  return {
    show: async (request, reply) => {
      if (!isPage(request)) return false;
      reply.headers(HEADERS).header('cache-control', 'no-store');
      if (built) await reply.sendFile('index.html', folder, { cacheControl: false });
      else await reply.code(503).type('text/plain; charset=utf-8').send(NOT_BUILT);
      return true;
    },
  };
}

/** What a person opens in a browser; anything else gets its 404 as before. */
function isPage({ method, url, headers }: FastifyRequest): boolean {
  if (method !== 'GET' && method !== 'HEAD') return false;
  const path = url.split('?', 1)[0]!;
  if (path === '/') return true;
  return !path.startsWith('/api/') && !path.startsWith(ASSETS) && headers.accept?.includes('text/html') === true;
}
