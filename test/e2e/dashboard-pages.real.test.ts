// The dashboard's pages in a real browser, over a small real fleet: each shows what is so, and what is done on it happens.

import { readFile } from 'node:fs/promises';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CHROMIUM, launchBrowser, plainUrl, signInWithToken, type OpenPage } from '../support/browser.ts';
import { pull, TestFleet, until, type TestAgent } from '../support/fleet.ts';
import { OriginServer, type TestImage } from '../support/origin-server.ts';
import { needs } from '../support/programs.ts';

const MIB = 1024 * 1024;
const PAGES = ['/hosts', '/images', '/members', '/timeline', '/brakes', '/pulls', '/search?q=host', '/tokens'];

needs(CHROMIUM)("the dashboard's pages", () => {
  let origin: OriginServer;
  let fleet: TestFleet;
  let image: TestImage;
  let agents: TestAgent[];
  let url: string;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let faults: readonly string[];

  const layer = (): string => image.layers[0]!.digest;
  const configOf = (): string => (JSON.parse(image.manifest.bytes.toString('utf8')) as { config: { digest: string } }).config.digest;
  const open = (path: string): Promise<unknown> => page.goto(url + path);
  const heading = (name: string | RegExp): Promise<void> => page.getByRole('heading', { level: 1, name }).waitFor();
  const rowOf = (name: string) => page.getByRole('row').filter({ has: page.getByRole('link', { name, exact: true }) });

  const signedIn = (token: string): Promise<OpenPage> => signInWithToken(browser, url, token);

  beforeAll(async () => {
    origin = await OriginServer.start();
    fleet = await TestFleet.start({ lab: origin.url });
    image = origin.addImage('team/app', 'v1', [24 * MIB]);
    agents = [await fleet.agent('host-a', { zone: 'red' }), await fleet.agent('host-b', { zone: 'red' }), await fleet.agent('host-c', { zone: 'blue' })];
    await fleet.meshed();
    url = plainUrl(fleet.tracker.url);
    browser = await launchBrowser();
    ({ context, page, faults } = await signedIn((await readFile(fleet.tracker.operatorTokenFile, 'utf8')).trim()));
  });

  afterAll(async () => {
    await context?.close();
    await browser?.close();
    await fleet?.stop();
    await origin?.goAway();
  });

  test('swarm and host show a pull as it goes, then who holds it', async () => {
    origin.faults.rate = MIB;
    await open(`/swarms/${layer()}`);
    await page.getByText('Nobody holds or wants this blob now').waitFor();
    const pulls = agents.map(async (agent) => {
      await pull(agent, 'lab/team/app/manifests/v1', { headers: { 'x-request-id': `build-of-${agent.name}` } });
      await pull(agent, `lab/team/app/blobs/${configOf()}`);
      return pull(agent, `lab/team/app/blobs/${layer()}`, { headers: { 'x-request-id': `build-of-${agent.name}` } });
    });
    await until('the swarm is there', () => fleet.tracker.fleet.swarms.size > 1);
    await open(`/swarms/${layer()}`);
    await heading(/^Blob/);
    for (const { name } of agents) await rowOf(name).first().waitFor();
    await page.getByRole('table', { name: 'Leases at the origin' }).waitFor();
    await page.getByRole('img', { name: /Copies of each part of the blob/ }).waitFor();
    await open(`/hosts/${agents[1]!.running.peerId}`);
    await heading(/^host-b/);
    await page.getByRole('table', { name: 'Downloads' }).getByRole('link', { name: layer().slice(7, 19) }).waitFor();
    const peers = page.getByRole('table', { name: 'Peers' });
    for (const name of ['host-a', 'host-c']) await peers.getByRole('link', { name }).waitFor();
    delete origin.faults.rate;
    for (const pulled of await Promise.all(pulls)) expect(pulled.sha256).toBe(layer());
    await open(`/swarms/${layer()}`);
    await page.getByText('3 copies of every chunk').waitFor();
  });

  test('images, pulls and a request id lead to the image and to who gave its bytes', async () => {
    await open('/images');
    const row = rowOf('lab/team/app:v1');
    await row.waitFor();
    await expect.poll(() => row.getByRole('cell').nth(1).innerText()).toBe('3');
    // Twenty seconds later a pull is over.
    await until('the pulls are told', async () => {
      fleet.tracker.view.look(Date.now() + 20_000);
      return (await fleet.tracker.view.history.byRequest('build-of-host-b')) !== undefined;
    });
    await open('/');
    await heading('Fleet');
    await page.keyboard.press('/');
    await page.keyboard.type('build-of-host-b');
    await page.keyboard.press('Enter');
    await heading('Search: build-of-host-b');
    await page.getByRole('main').getByRole('link').first().click();
    await heading(/lab\/team\/app/);
    await page.getByText('build-of-host-b').waitFor();
    await page.getByRole('main').getByText(/^on/).getByRole('link', { name: 'host-b' }).waitFor();
    await open('/pulls?host=host-c');
    await page.getByRole('link', { name: 'host-c' }).first().waitFor();
    expect(await rowOf('host-a').count()).toBe(0);
  });

  test('a member is put into quarantine and taken back by keyboard alone, and the timeline says who did it', async () => {
    await open('/members');
    const { peerId } = agents[2]!.running;
    const button = rowOf('host-c').getByRole('button', { name: 'Quarantine' });
    await button.focus();
    await page.keyboard.press('Enter');
    const dialog = page.getByRole('dialog', { name: 'Put host-c into quarantine?' });
    await dialog.getByLabel('Why').focus();
    await page.keyboard.type('smoke was seen');
    await page.keyboard.press('Enter');
    await rowOf('host-c').getByText('quarantined').waitFor();
    expect(fleet.tracker.fleet.members.get(peerId)).toMatchObject({ state: 'quarantined', reason: 'smoke was seen' });
    await rowOf('host-c').getByRole('link', { name: 'who got bytes from it' }).click();
    await heading('Who got bytes from host-c');
    await page.goBack();
    await rowOf('host-c').getByRole('button', { name: 'Readmit' }).focus();
    await page.keyboard.press('Enter');
    await page.getByRole('dialog', { name: 'Readmit host-c?' }).getByRole('button', { name: 'Readmit' }).focus();
    await page.keyboard.press('Enter');
    await expect.poll(() => fleet.tracker.fleet.members.get(peerId)?.state).toBe('member');
    await open('/timeline?kind=member');
    const changes = page.getByRole('table', { name: 'Changes, newest first' });
    await changes.getByText('host-c in quarantine: smoke was seen').waitFor();
    await changes.getByText('operator-token').first().waitFor();
  });

  test('lists follow what is done elsewhere, and ask for nothing while nothing is', async () => {
    const { peerId } = agents[2]!.running;
    const token = (await readFile(fleet.tracker.operatorTokenFile, 'utf8')).trim();
    const elsewhere = async (method: string, path: string, body?: object): Promise<void> => {
      const response = await fetch(`${url}/api/v1${path}`, { method, headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) }, ...(body && { body: JSON.stringify(body) }) });
      expect(response.ok).toBe(true);
    };
    const asked: string[] = [];
    page.on('request', (request) => asked.push(new URL(request.url()).pathname));
    const seconds = async (count: number): Promise<void> => {
      const told = (): Promise<number> => page.evaluate<number>("performance.getEntriesByName('flotilla-live').filter(({ detail }) => detail.topic === 'fleet').length");
      const before = await told();
      await expect.poll(told, { timeout: 30_000 }).toBeGreaterThanOrEqual(before + count);
    };
    await open('/members');
    await rowOf('host-c').waitFor();
    await seconds(2);
    asked.length = 0;
    await seconds(4);
    expect(asked).toEqual([]);
    await elsewhere('POST', `/members/${peerId}/quarantine`, { reason: 'seen from elsewhere' });
    await rowOf('host-c').getByText('seen from elsewhere').waitFor();
    await elsewhere('POST', `/members/${peerId}/readmit`);
    await expect.poll(() => rowOf('host-c').getByText('seen from elsewhere').count()).toBe(0);
    await open('/tokens');
    await page.getByRole('table', { name: 'Tokens' }).waitFor();
    await elsewhere('POST', '/tokens', { name: 'from-elsewhere', role: 'read' });
    const row = page.getByRole('row', { name: /from-elsewhere/ });
    await row.waitFor();
    await elsewhere('DELETE', '/tokens/from-elsewhere');
    await expect.poll(() => row.count()).toBe(0);
    await open('/timeline?span=7+days');
    await page.getByText('host-c in quarantine: seen from elsewhere').waitFor();
    await elsewhere('POST', `/members/${peerId}/quarantine`, { reason: 'a second time' });
    await page.getByText('host-c in quarantine: a second time').waitFor();
    await elsewhere('POST', `/members/${peerId}/readmit`);
  });

  test('a brake reaches the hosts of its zone, and none once it is released', async () => {
    await open('/brakes');
    await page.getByRole('radio', { name: 'zone' }).check();
    await page.getByLabel('Zone', { exact: true }).selectOption('red');
    await page.getByLabel('Stop uploads').check();
    await page.getByLabel('Why').fill('switch dying');
    await page.getByRole('button', { name: 'Set the brake' }).click();
    const dialog = page.getByRole('dialog', { name: 'Hold back zone red?' });
    await dialog.getByText(/It reaches 2.hosts/).waitFor();
    await dialog.getByRole('button', { name: 'Set the brake' }).click();
    await page.getByRole('row', { name: /zone red.*no uploads to peers/ }).waitFor();
    const braked = async (): Promise<number[]> => Promise.all(agents.slice(0, 2).map(async ({ running }) => (await running.status()).brakes?.length ?? 0));
    await expect.poll(braked).toEqual([1, 1]);
    await page.getByRole('button', { name: 'Release' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Release' }).click();
    await page.getByText('Nothing is held back').waitFor();
    await expect.poll(braked).toEqual([0, 0]);
  });

  test('a token is shown once; who only reads finds every change disabled, with the reason; revoked, it is out', async () => {
    await open('/tokens');
    await page.getByLabel('Name').fill('wallboard');
    await page.getByRole('button', { name: 'Make it' }).click();
    const token = await page.getByTestId('created-token').innerText();
    const reader = await signedIn(token.trim());
    await reader.page.goto(`${url}/members`);
    const buttons = reader.page.getByRole('main').getByRole('button', { name: /^(Quarantine|Expel|Make a new one)$/ });
    await buttons.first().waitFor();
    for (const button of await buttons.all()) {
      expect(await button.isDisabled()).toBe(true);
      expect(await button.getAttribute('title')).toMatch(/^Needs the role (operate|admin)$/);
    }
    await reader.page.goto(`${url}/tokens`);
    await reader.page.getByText("Tokens are an admin's").waitFor();
    await page.getByRole('row', { name: /wallboard/ }).getByRole('button', { name: 'Revoke' }).click();
    await page.getByRole('dialog', { name: 'Revoke the token wallboard?' }).getByRole('button', { name: 'Revoke' }).click();
    await expect.poll(() => page.getByRole('row', { name: /wallboard/ }).count()).toBe(0);
    await reader.page.goto(`${url}/hosts`);
    await reader.page.getByRole('heading', { name: 'Sign in' }).waitFor();
    await reader.context.close();
  });

  test('on a phone no page is wider than the screen', async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    for (const path of [...PAGES, `/hosts/${agents[0]!.running.peerId}`, `/swarms/${layer()}`]) {
      await open(path);
      await page.getByRole('heading', { level: 1 }).waitFor();
      await page.getByText('live', { exact: true }).waitFor();
      expect([path, await page.evaluate<number>('document.documentElement.scrollWidth <= innerWidth ? 0 : document.documentElement.scrollWidth')]).toEqual([path, 0]);
    }
    await page.setViewportSize({ width: 1360, height: 900 });
  });

  test('nothing went wrong in the page meanwhile', () => {
    expect(faults).toEqual([]);
  });
});
