// The dashboard in a real browser, as the tracker serves it: sign-in, a rollout over real agents from begin to end, a tracker that restarts in the
// middle, and a fleet of 2,000. Nothing is loaded from anywhere else, and nothing goes wrong in the page.

import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '@flotilla/tracker/config';
import { createLogger } from '@flotilla/tracker/log';
import { LoginCodes } from '@flotilla/tracker/operators/login-codes';
import { startTracker, type Tracker } from '@flotilla/tracker/server';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CHROMIUM, launchBrowser, openWindow, plainUrl, signInWithToken, type OpenPage } from '../support/browser.ts';
import { TestFleet, until } from '../support/fleet.ts';
import { GeneratedFleet } from '../support/generated-fleet.ts';
import { OriginServer } from '../support/origin-server.ts';
import { needs } from '../support/programs.ts';

const MIB = 1024 * 1024;
const IMAGE = 'lab/team/app:v1';
/** Said by the browser while the tracker is away, and as the page finds out. */
const AWAY = /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|ERR_INCOMPLETE_CHUNKED_ENCODING/;

/** In the page: from when sessionStorage names a release, the stream's snapshots are of that one. */
const SAY_ANOTHER_RELEASE = `{
  const listen = EventSource.prototype.addEventListener;
  EventSource.prototype.addEventListener = function (kind, listener) {
    listen.call(this, kind, (event) => {
      const release = sessionStorage.getItem('release');
      listener(release === null || kind !== 'snapshot' ? event : new MessageEvent(kind, { data: event.data.replace(/"version":"[^"]*"/, '"version":"' + release + '"') }));
    });
  };
}`;

const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

needs(CHROMIUM)('the dashboard', () => {
  let browser: Browser;
  const windows: OpenPage[] = [];

  beforeAll(async () => {
    browser = await launchBrowser();
  });

  afterEach(async () => {
    for (const { context } of windows.splice(0)) await context.close();
  });

  afterAll(() => browser?.close());

  const keep = async (opened: Promise<OpenPage>): Promise<OpenPage> => {
    const made = await opened;
    windows.push(made);
    return made;
  };

  describe('sign-in', () => {
    let dir: string;
    let tracker: Tracker;

    beforeEach(async () => {
      dir = await mkdtemp(join(tmpdir(), 'flotilla-dashboard-'));
      tracker = await startTracker(loadConfig({ flags: { data: dir, listen: '127.0.0.1:0' }, env: {} }).config, { log: createLogger('silent') });
    });

    afterEach(async () => {
      await tracker.close();
      await rm(dir, { recursive: true });
    });

    const link = async (): Promise<string> => `${plainUrl(tracker.url)}/#code=${await new LoginCodes(dir).create({ name: 'ada', role: 'operate' }, Date.now())}`;
    const window = (): Promise<OpenPage> => keep(openWindow(browser, plainUrl(tracker.url)));

    test('a link signs in once, leaves no code in the address, and lasts over a reload', async () => {
      const once = await link();
      const { page, context, faults } = await window();
      await page.goto(once);
      await page.getByText('ada').waitFor();
      expect(page.url()).toBe(`${plainUrl(tracker.url)}/`);
      const [cookie, ...others] = await context.cookies();
      expect([cookie, others.length]).toEqual([expect.objectContaining({ httpOnly: true, sameSite: 'Strict' }), 0]);
      expect(await page.evaluate('document.cookie + JSON.stringify(Object.entries(localStorage)) + JSON.stringify(Object.entries(sessionStorage))')).not.toContain(cookie!.value);
      await page.reload();
      await page.getByText('ada').waitFor();

      const second = await window();
      await second.page.goto(once);
      await second.page.getByRole('alert').getByText('Login code is not good').waitFor();
      await second.page.getByText('flotilla-tracker login').first().waitFor();
      expect(faults).toEqual([]);
    });

    test('sign-out ends the session in every window', async () => {
      const { page, context } = await window();
      await page.goto(await link());
      await page.getByText('ada').waitFor();
      const other = await context.newPage();
      await other.goto(`${plainUrl(tracker.url)}/members`);
      await other.getByRole('heading', { level: 1, name: 'Members' }).waitFor();
      await page.getByRole('button', { name: 'Sign out' }).click();
      await page.getByRole('heading', { name: 'Sign in' }).waitFor();
      await other.getByRole('heading', { name: 'Sign in' }).waitFor();
      expect(await context.cookies()).toEqual([]);
    });

    test('a wrong token is refused with what to do', async () => {
      const { page } = await window();
      await page.goto(plainUrl(tracker.url));
      await page.getByLabel('Or with a token').fill('wrong');
      await page.keyboard.press('Enter');
      await page.getByRole('alert').getByText('OPERATOR_UNAUTHORIZED').waitFor();
    });
  });

  describe('a rollout', () => {
    let origin: OriginServer;
    let fleet: TestFleet;
    let url: string;
    let token: string;

    beforeEach(async () => {
      origin = await OriginServer.start();
      fleet = await TestFleet.start({ lab: origin.url });
      origin.addImage('team/app', 'v1', [6 * MIB, 2 * MIB]);
      for (const name of ['host-a', 'host-b', 'host-c']) await fleet.agent(name, { zone: name === 'host-c' ? 'blue' : 'red' });
      await fleet.meshed();
      url = plainUrl(fleet.tracker.url);
      token = (await readFile(fleet.tracker.operatorTokenFile, 'utf8')).trim();
    });

    afterEach(async () => {
      await fleet.stop();
      await origin.goAway();
    });

    async function begin(page: Page): Promise<void> {
      await page.getByRole('link', { name: 'Rollouts' }).click();
      await page.getByRole('link', { name: 'New rollout' }).click();
      await page.getByRole('textbox', { name: 'Image' }).fill(IMAGE);
      await page.getByLabel('Waves').fill('1,100%');
      await page.getByRole('button', { name: 'Begin' }).click();
      await page.getByRole('heading', { level: 1, name: IMAGE }).waitFor();
    }

    const figure = (page: Page, label: string): Promise<string> => page.locator('.figure').filter({ hasText: label }).locator('.value').innerText();
    const grid = async (page: Page): Promise<string> => (await page.getByRole('application').getAttribute('aria-label'))!.replaceAll('\u00A0', ' ');

    test('is begun, shown as it goes, paused and resumed by its buttons, and done', async () => {
      const gate = Promise.withResolvers<void>();
      origin.faults.gate = () => gate.promise;
      const { page, faults } = await keep(signInWithToken(browser, url, token));
      await begin(page);
      await page.getByRole('heading', { level: 1 }).getByText('running', { exact: true }).waitFor();
      await expect.poll(() => grid(page)).toContain('3 hosts: 0 done');
      await expect.poll(() => figure(page, 'Under way')).toBe('1');

      await page.getByRole('button', { name: 'Pause' }).click();
      await page.getByText('paused', { exact: true }).waitFor();
      expect(fleet.tracker.fleet.rollouts.list(Date.now())).toMatchObject([{ state: 'paused', image: IMAGE }]);
      gate.resolve();
      await page.getByRole('button', { name: 'Resume' }).click();
      await page.getByRole('heading', { level: 1 }).getByText('done', { exact: true }).waitFor();
      await expect.poll(() => grid(page)).toContain('3 hosts: 3 done');
      await expect.poll(() => figure(page, 'Hosts done')).toBe('3');
      await page.getByText('3 of 3').first().waitFor();
      await page.getByRole('link', { name: 'Timeline' }).click();
      const changes = page.getByRole('table', { name: /Changes/ });
      for (const said of [`operator-token began the rollout of ${IMAGE} on 3 hosts`, `operator-token paused the rollout of ${IMAGE}`, `the rollout of ${IMAGE} is done`]) await changes.getByText(said).waitFor();
      expect(faults).toEqual([]);
    });

    test('goes on over a restart of the tracker, and the page finds back by itself', async () => {
      const gate = Promise.withResolvers<void>();
      origin.faults.gate = () => gate.promise;
      const opened = await keep(openWindow(browser, url));
      const { page, faults } = opened;
      await page.addInitScript(SAY_ANOTHER_RELEASE);
      await page.goto(`${url}/#code=${await new LoginCodes(join(fleet.dir, 'tracker')).create({ name: 'ada', role: 'operate' }, Date.now())}`);
      await begin(page);
      await expect.poll(() => figure(page, 'Under way')).toBe('1');
      await fleet.stopTracker();
      await page.locator('.frame.stale').waitFor();
      gate.resolve();
      // It comes back as another release: its pages are others, too.
      await page.evaluate("sessionStorage.setItem('release', '9.9.9')");
      const loaded = page.waitForEvent('load');
      await fleet.startTracker();
      await loaded;
      await page.locator('.frame:not(.stale)').waitFor();
      await page.getByRole('heading', { level: 1 }).getByText('done', { exact: true }).waitFor();
      await expect.poll(() => grid(page)).toContain('3 hosts: 3 done');
      expect(faults.filter((fault) => !AWAY.test(fault))).toEqual([]);
    });

    test('is begun and cancelled by keyboard alone, and what it asks for is refused with the reason', async () => {
      const gate = Promise.withResolvers<void>();
      origin.faults.gate = () => gate.promise;
      const { page } = await keep(signInWithToken(browser, url, token));
      await page.goto(`${url}/rollouts/new?image=${IMAGE}`);
      await page.getByLabel('Hosts').focus();
      await page.keyboard.type('zone=green');
      await page.getByRole('button', { name: 'Begin' }).focus();
      await page.keyboard.press('Enter');
      await page.getByRole('alert').getByText('no host fits "zone=green"').waitFor();
      await page.keyboard.press('Escape');
      await page.getByLabel('Hosts').fill('');
      await page.getByRole('button', { name: 'Begin' }).focus();
      await page.keyboard.press('Enter');
      await page.getByRole('heading', { level: 1, name: IMAGE }).waitFor();
      await page.getByRole('button', { name: 'Cancel' }).focus();
      await page.keyboard.press('Enter');
      await page.getByRole('dialog', { name: 'Cancel this rollout?' }).getByRole('button', { name: 'Cancel' }).focus();
      await page.keyboard.press('Enter');
      await page.getByText('cancelled', { exact: true }).waitFor();
      gate.resolve();
      await until('the tracker knows', () => fleet.tracker.fleet.rollouts.list(Date.now())[0]?.state === 'cancelled');
    });
  });

  describe('2,000 hosts', () => {
    let dir: string;
    let tracker: Tracker;
    let generated: GeneratedFleet;

    beforeAll(async () => {
      dir = await mkdtemp(join(tmpdir(), 'flotilla-dashboard-'));
      tracker = await startTracker(loadConfig({ flags: { data: dir, listen: '127.0.0.1:0' }, env: {} }).config, { log: createLogger('silent') });
      generated = new GeneratedFleet(tracker.fleet, { dataDir: dir, hosts: 2_000, slowShare: 0.02 });
      await generated.connect();
      generated.begin();
    });

    afterAll(async () => {
      await tracker?.close();
      await rm(dir, { recursive: true });
    });

    test('are all on the page of what they pull, each to be found by keyboard, and the picture changes as they go on', async () => {
      const { page, faults } = await keep(signInWithToken(browser, plainUrl(tracker.url), (await readFile(tracker.operatorTokenFile, 'utf8')).trim()));
      const second = (): void => {
        for (const { session, messages } of generated.second()) generated.take(session, messages);
      };
      second();
      await page.goto(`${plainUrl(tracker.url)}/images/${generated.digest}`);
      const grid = page.getByRole('application', { name: /^2,000 hosts/ });
      await grid.waitFor();
      const held = (): Promise<string> => page.locator('.figure').filter({ hasText: 'Held by all' }).locator('.value').innerText();
      const before = parseFloat(await held());
      const shown = hashOf(await grid.screenshot());
      // Six seconds of the fleet are about 15 % of the image; how long the page takes to say so is the machine's affair.
      for (let passed = 0; passed < 6; passed++) second();
      await expect.poll(async () => parseFloat(await held())).toBeGreaterThan(before + 5);
      await expect.poll(async () => hashOf(await grid.screenshot())).not.toBe(shown);

      await grid.focus();
      for (let moves = 0; moves < 3; moves++) await page.keyboard.press('ArrowRight');
      const spoken = await page.locator('.host-grid [role=status]').innerText();
      expect(spoken).toMatch(/^node-\d{4}, holds .*zone zone-a$/);
      await page.keyboard.press('Enter');
      await page.getByRole('heading', { level: 1, name: spoken.split(',')[0]! }).waitFor();

      await page.goto(`${plainUrl(tracker.url)}/hosts`);
      await page.getByText('2,000').first().waitFor();
      expect(faults).toEqual([]);
    });
  });
});
