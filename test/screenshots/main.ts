// `npm run screenshots`: makes the pictures in docs/screenshots, of the dashboard over a fleet of 2,000 made-up hosts in the middle of a rollout; the
// swarm of a blob is a real one, of a few agents in this process.

import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { RolloutDetail } from '@flotilla/shared/rollout-api';
import { loadConfig } from '@flotilla/tracker/config';
import { createLogger } from '@flotilla/tracker/log';
import { startTracker } from '@flotilla/tracker/server';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { launchBrowser, plainUrl, signInWithToken } from '../support/browser.ts';
import { pull, TestFleet, until as untilTrue, type TestAgent } from '../support/fleet.ts';
import { GeneratedFleet } from '../support/generated-fleet.ts';
import { OriginServer } from '../support/origin-server.ts';

const FOLDER = fileURLToPath(new URL('../../docs/screenshots', import.meta.url));
const PHONE = { width: 390, height: 844 } as const;
const HOSTS = 2_000;
const SWARM_HOSTS = 8;
const MIB = 1024 * 1024;

const dataDir = await mkdtemp(join(tmpdir(), 'flotilla-screenshots-'));
const tracker = await startTracker(loadConfig({ flags: { data: dataDir, listen: '127.0.0.1:0' }, env: {} }).config, { log: createLogger('silent') });
const generated = new GeneratedFleet(tracker.fleet, { dataDir, hosts: HOSTS, zones: 6, failShare: 0.004, slowShare: 0.015, rate: 26 * 1024 * 1024 });
let browser: Browser | undefined;
try {
  await generated.connect();
  const url = plainUrl(tracker.url);
  const token = (await readFile(tracker.operatorTokenFile, 'utf8')).trim();
  const rollout = await begin(url, token);
  const seconds = setInterval(() => {
    for (const { session, messages } of generated.second()) generated.take(session, messages);
  }, 1_000);
  browser = await launchBrowser();
  await mkdir(FOLDER, { recursive: true });
  console.error('screenshots: the rollout goes on for a while');
  const desktop = await open(browser, url, token, {});
  await desktop.goto(`${url}/rollouts/${rollout}`);
  await until(desktop, /^[3-9]\d\s%/);
  await shoot(desktop, 'rollout');
  await desktop.goto(url);
  await shoot(desktop, 'fleet');
  const dark = await open(browser, url, token, { colorScheme: 'dark' });
  await dark.goto(`${url}/images/${generated.digest}`);
  await shoot(dark, 'image-dark');
  const phone = await open(browser, url, token, { viewport: PHONE, deviceScaleFactor: 2 });
  await phone.goto(`${url}/rollouts/${rollout}`);
  await shoot(phone, 'rollout-phone');
  clearInterval(seconds);
  await shootSwarm(browser);
} finally {
  await browser?.close();
  await tracker.close();
  await rm(dataDir, { recursive: true });
}

/** Eight agents that begin one after the other, so that each holds another part. */
async function shootSwarm(chromium: Browser): Promise<void> {
  const origin = await OriginServer.start();
  const fleet = await TestFleet.start({ 'registry.example': origin.url });
  const end = new AbortController();
  try {
    const image = origin.addImage('shop/checkout', 'v7', [64 * MIB]);
    const { digest } = image.layers[0]!;
    const agents: TestAgent[] = [];
    for (let n = 1; n <= SWARM_HOSTS; n++) agents.push(await fleet.agent(`node-${n}`, { zone: n % 2 === 0 ? 'b' : 'a' }));
    await fleet.meshed();
    origin.faults.rate = MIB / 4;
    for (const [at, agent] of agents.entries()) {
      const pulling = pull(agent, 'registry.example/shop/checkout/manifests/v7').then(() => pull(agent, `registry.example/shop/checkout/blobs/${digest}`, { signal: end.signal }));
      pulling.catch(() => undefined);
      if (at < agents.length - 1) await delay(1_500);
    }
    await untilTrue('a part is here', async () => (await agents[0]!.bytes()).origin > 3 * MIB);
    const url = plainUrl(fleet.tracker.url);
    const page = await open(chromium, url, (await readFile(fleet.tracker.operatorTokenFile, 'utf8')).trim(), {});
    await page.goto(`${url}/swarms/${digest}`);
    await shoot(page, 'swarm');
  } finally {
    end.abort();
    await fleet.stop();
    await origin.goAway();
  }
}

async function begin(url: string, token: string): Promise<string> {
  const answer = await fetch(`${url}/api/v1/rollouts`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ image: 'docker.io/library/service:v2', waves: '1,4,100%', originLimit: 200_000_000 }),
  });
  return ((await answer.json()) as RolloutDetail).id;
}

async function open(chromium: Browser, url: string, token: string, options: BrowserContextOptions): Promise<Page> {
  const { page } = await signInWithToken(chromium, url, token, options);
  return page;
}

/** Until the wave that holds most hosts is about half done. */
async function until(page: Page, held: RegExp): Promise<void> {
  const figure = page.locator('.figure').filter({ hasText: 'Arriving now' }).locator('.note');
  while (!held.test(await figure.innerText())) await delay(500);
}

/** The top of a page: what a reader of the docs sees without scrolling. */
async function shoot(page: Page, name: string): Promise<void> {
  await page.getByText('live', { exact: true }).waitFor();
  await delay(2_500);
  await page.screenshot({ path: join(FOLDER, `${name}.png`) });
  console.error(`screenshots: ${name}.png`);
}
