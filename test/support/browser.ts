// Debian's chromium, headless, at a tracker's dashboard over plain HTTP on loopback. What goes wrong in a page is kept, to be asserted on.

import { chromium, type Browser, type BrowserContext, type BrowserContextOptions, type Page } from 'playwright-core';
import { programPath } from './programs.ts';

export const CHROMIUM = 'chromium';
const DESKTOP = { width: 1360, height: 900 } as const;
/** What the browser itself says of the first `GET /me` of who is not signed in. */
const NOT_SIGNED_IN = 'the server responded with a status of 401';

export interface OpenPage {
  readonly context: BrowserContext;
  readonly page: Page;
  /** Exceptions, errors of the console (refused by the policy, not to be loaded), requests to anywhere but the tracker. */
  readonly faults: string[];
}

export async function launchBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: programPath(CHROMIUM)!, args: ['--no-sandbox'] });
}

/** The address at which a browser on this machine needs no certificate. */
export function plainUrl(trackerUrl: string): string {
  return trackerUrl.replace(/^https:/, 'http:');
}

/** A window of its own, not signed in. */
export async function openWindow(browser: Browser, origin: string, options: BrowserContextOptions = {}): Promise<OpenPage> {
  const context = await browser.newContext({ viewport: DESKTOP, ...options });
  const page = await context.newPage();
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error' && !message.text().includes(NOT_SIGNED_IN)) faults.push(message.text());
  });
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) faults.push(`asked for ${request.url()}`);
  });
  return { context, page, faults };
}

/** Opens the dashboard and signs in with a token. */
export async function signInWithToken(browser: Browser, origin: string, token: string, options: BrowserContextOptions = {}): Promise<OpenPage> {
  const opened = await openWindow(browser, origin, options);
  await opened.page.goto(origin);
  await opened.page.getByLabel('Or with a token').fill(token);
  await opened.page.keyboard.press('Enter');
  await opened.page.getByRole('button', { name: 'Sign out' }).waitFor();
  return opened;
}
