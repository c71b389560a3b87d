// The dashboard's files as a browser asks for them: real HTTP, a built page on disk.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fastify from 'fastify';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { dashboard } from './dashboard.ts';
import type { App } from './server.ts';

const BROWSER = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };

let folder: string;
let app: App;
let url: string;

async function serve(): Promise<void> {
  app = fastify();
  const page = await dashboard(app, folder);
  app.get('/metrics', () => 'figures');
  app.setNotFoundHandler(async (request, reply) => {
    if (!(await page.show(request, reply))) await reply.code(404).send('unknown');
  });
  url = await app.listen({ host: '127.0.0.1', port: 0 });
}

const get = (path: string, headers: Record<string, string> = BROWSER): Promise<Response> => fetch(url + path, { headers });

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flotilla-dashboard-'));
});

afterEach(async () => {
  await app.close();
  await rm(folder, { recursive: true });
});

describe('built', () => {
  beforeEach(async () => {
    await mkdir(join(folder, 'assets'));
    await writeFile(join(folder, 'index.html'), '<title>page</title>');
    await writeFile(join(folder, 'assets', 'index-abc.js'), 'code');
    await serve();
  });

  test('the page is sent for / and for every address inside it, and is never kept', async () => {
    for (const path of ['/', '/hosts/12D3KooW', '/search?q=a%2Fb', '/images/sha256:00']) {
      const answer = await get(path);
      expect([answer.status, await answer.text(), answer.headers.get('cache-control')]).toEqual([200, '<title>page</title>', 'no-store']);
    }
  });

  test('its policy lets it load from here alone, run no text as code, and be in no frame', async () => {
    for (const path of ['/', '/assets/index-abc.js']) {
      const { headers } = await get(path);
      const policy = headers.get('content-security-policy')!;
      expect(policy).toContain("default-src 'none'");
      expect(policy).toContain("script-src 'self'");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy).not.toMatch(/unsafe|https?:|\*/);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
    }
  });

  test('files named by their content are kept for a year; those that are not there are a 404, not the page', async () => {
    const asset = await get('/assets/index-abc.js');
    expect(asset.headers.get('cache-control')).toBe('public, max-age=31536000, immutable');
    expect(asset.headers.get('content-type')).toContain('/javascript');
    expect((await get('/assets/index-old.js')).status).toBe(404);
  });

  test('hides no route, and what is no page gets its 404 as before', async () => {
    expect(await (await get('/metrics')).text()).toBe('figures');
    expect((await get('/api/v1/nothing')).status).toBe(404);
    expect((await get('/nothing', { accept: 'application/json' })).status).toBe(404);
    expect((await fetch(`${url}/hosts`, { method: 'POST', headers: BROWSER })).status).toBe(404);
  });
});

test('not built: the page says which command builds it', async () => {
  await serve();
  const answer = await get('/');
  expect([answer.status, await answer.text()]).toEqual([503, expect.stringContaining('npm run setup')]);
});
