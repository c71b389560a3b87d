// What the dashboard's page costs a real browser while 2,000 hosts pull: main-thread time of each update (one a second), and the longest task.
//
// The page of an image is the heaviest: grid, chart, tables. Headless chromium draws by CPU, so that this errs to the dear side. The tracker runs
// in this process, beside it: its own cost is measured by view.ts.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { loadConfig } from '@flotilla/tracker/config';
import { createLogger } from '@flotilla/tracker/log';
import { startTracker } from '@flotilla/tracker/server';
import { launchBrowser, plainUrl, signInWithToken } from '../support/browser.ts';
import { GeneratedFleet } from '../support/generated-fleet.ts';
import { median } from './median.ts';

export const MAX_UPDATE_MS = 50;
const SECONDS = 30;
const WARM_UP = 5;

export interface PageResult {
  readonly hosts: number;
  readonly seconds: number;
  /** Main-thread time of one second, in which one update comes: script, style, layout and painting. */
  readonly updateMs: { readonly median: number; readonly longest: number };
  /** From the tracker's look at the fleet until the page has it, at most. The next one comes a second later. */
  readonly ageMs: number;
  readonly ok: boolean;
}

/** @param hosts that pull at once */
export async function benchPage(hosts: number, progress: (text: string) => void): Promise<PageResult> {
  const dataDir = await mkdtemp(join(tmpdir(), 'flotilla-bench-page-'));
  const tracker = await startTracker(loadConfig({ flags: { data: dataDir, listen: '127.0.0.1:0' }, env: {} }).config, { log: createLogger('silent') });
  const browser = await launchBrowser();
  // Slow enough that nobody is done before the end.
  const generated = new GeneratedFleet(tracker.fleet, { dataDir, hosts, rate: 8 * 1024 * 1024 });
  let seconds: NodeJS.Timeout | undefined;
  try {
    await generated.connect();
    generated.begin();
    seconds = setInterval(() => {
      for (const { session, messages } of generated.second()) generated.take(session, messages);
    }, 1_000);
    const url = plainUrl(tracker.url);
    const { page, context } = await signInWithToken(browser, url, (await readFile(tracker.operatorTokenFile, 'utf8')).trim());
    await page.goto(`${url}/images/${generated.digest}`);
    await page.getByRole('application').waitFor();
    const client = await context.newCDPSession(page);
    await client.send('Performance.enable');
    const taskMs = async (): Promise<number> => {
      const { metrics } = await client.send('Performance.getMetrics');
      return 1_000 * metrics.find(({ name }) => name === 'TaskDuration')!.value;
    };
    await delay(WARM_UP * 1_000);
    progress(`${hosts} hosts pull, a page looks at them for ${SECONDS} s`);
    const spent: number[] = [];
    let before = await taskMs();
    for (let second = 0; second < SECONDS; second++) {
      await delay(1_000);
      const now = await taskMs();
      spent.push(now - before);
      before = now;
    }
    const ages = await page.evaluate<number[]>(`performance.getEntriesByName('flotilla-live').slice(-${SECONDS}).map((entry) => entry.detail.ageMs)`);
    const ageMs = Math.max(...ages);
    const updateMs = { median: median(spent), longest: Math.max(...spent) };
    return { hosts, seconds: SECONDS, updateMs, ageMs, ok: updateMs.median < MAX_UPDATE_MS && ageMs < 1_000 };
  } finally {
    clearInterval(seconds);
    await browser.close();
    await tracker.close();
    await rm(dataDir, { recursive: true });
  }
}
