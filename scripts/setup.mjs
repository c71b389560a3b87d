// The set-up: pnpm at its pinned version installs the workspace and Node 26 (the npm package `node`); then the dashboard is built (dashboard.mjs).
//
// Runs on any Node >= 20 with npm beside it and nothing installed. Invariant: nothing outside the checkout
// changes; npm's and pnpm's caches, store and state live in .flotilla/setup. When nothing has changed since
// the last time (the stamp) it returns at once. Non-goal: updating the lockfile.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildDashboard } from './dashboard.mjs';

const PNPM = 'pnpm@12.21.0';
const OLDEST_NODE = 20;
const NO_NETWORK = /ENOTFOUND|EAI_AGAIN|EAI_FAIL|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH/;

export const root = fileURLToPath(new URL('..', import.meta.url));
/** The workspace's own Node; exists after `setUp`. */
export const workspaceNode = join(root, 'node_modules', '.bin', 'node');

const stampFile = join(root, 'node_modules', '.flotilla-setup');
const setupDir = join(root, '.flotilla', 'setup');
const setupLog = join(setupDir, 'setup.log');

/** A failure whose message is the one line that a person needs, next step included. */
export class SetupError extends Error {}

/**
 * Installs what is missing, and builds the dashboard where it has changed.
 * @returns {void}
 * @throws {SetupError}
 */
export function setUp() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < OLDEST_NODE) {
    throw new SetupError(`Node ${process.versions.node} is too old: install Node ${OLDEST_NODE} or newer and run the command again.`);
  }
  installPackages();
  const failure = buildDashboard(root, workspaceNode);
  if (failure === undefined) return;
  mkdirSync(setupDir, { recursive: true });
  writeFileSync(setupLog, failure);
  throw new SetupError(`The dashboard could not be built; what Vite says is in ${setupLog}`);
}

function installPackages() {
  const stamp = wantedStamp();
  if (existsSync(stampFile) && existsSync(workspaceNode) && readFileSync(stampFile, 'utf8') === stamp) return;

  const startedMs = Date.now();
  process.stdout.write('Setting up: installing packages into node_modules (once, about a minute) ...\n');
  install();
  if (!existsSync(workspaceNode)) {
    throw new SetupError(`Set-up ended without ${workspaceNode}: delete node_modules and run the command again.`);
  }
  writeFileSync(stampFile, stamp);
  process.stdout.write(`Set-up done in ${Math.round((Date.now() - startedMs) / 1000)} s.\n`);
}

/** Runs `work` and turns a SetupError into one line and exit code 1. For the scripts' entry points. */
export function orExplain(/** @type {() => void} */ work) {
  try {
    work();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}

/** What decides the outcome of an install. Not the Node that runs this: `npm run` finds the workspace's own first. */
function wantedStamp() {
  const hash = createHash('sha256').update(`${PNPM}\n${process.platform}-${process.arch}\n`);
  const folders = readdirSync(join(root, 'packages')).map((name) => join('packages', name));
  const files = ['pnpm-lock.yaml', 'pnpm-workspace.yaml', ...['.', 'test', ...folders].map((folder) => join(folder, 'package.json'))];
  for (const file of files.sort()) {
    const path = join(root, file);
    if (existsSync(path)) hash.update(`${file}\n`).update(readFileSync(path)).update('\n');
  }
  return hash.digest('hex');
}

function install() {
  mkdirSync(join(setupDir, 'tmp'), { recursive: true });
  // Asked first because pnpm alone takes minutes to give up.
  const ping = run('npm', ['ping', '--fetch-retries=1']);
  if (ping.status !== 0) {
    const reason = NO_NETWORK.exec(ping.output)?.[0] ?? `npm ping ended with exit code ${ping.status}`;
    throw new SetupError(`The npm registry cannot be reached (${reason}): check the network or proxy and run the command again. Log: ${setupLog}`);
  }
  // npx brings exactly this pnpm, so the check of package.json's `packageManager` is left out: it would write to the lockfile.
  const { status, output } = run('npx', ['--yes', PNPM, 'install', '--frozen-lockfile', '--pm-on-fail=ignore', '--store-dir', join(setupDir, 'store')]);
  if (status === 0) return;
  const reason = output.split('\n').map((line) => line.trim()).find((line) => /ERR_|\bError\b|npm error/.test(line)) ?? `exit code ${status}`;
  throw new SetupError(`Set-up failed: ${reason}. The whole output is in ${setupLog}`);
}

/** Runs quietly; what a failing command printed is in the set-up's log. */
function run(/** @type {string} */ command, /** @type {string[]} */ args) {
  const result = spawnSync(command, args, {
    cwd: root,
    env: installEnvironment(),
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (result.error) {
    throw new SetupError(`${command} cannot be run (${result.error.message}): install npm, which comes with Node, and run the command again.`);
  }
  const output = `${result.stdout}${result.stderr}`;
  if (result.signal) throw new SetupError(`Set-up was stopped (${result.signal}); run the command again.`);
  if (result.status !== 0) writeFileSync(setupLog, output);
  return { status: result.status, output };
}

function installEnvironment() {
  const outer = { ...process.env };
  // The workspace's own Node is about to be replaced: install with the machine's.
  const path = (outer['PATH'] ?? '').split(delimiter).filter((folder) => !folder.includes(join('node_modules', '.bin')));
  return {
    ...outer,
    PATH: path.join(delimiter),
    TMPDIR: join(setupDir, 'tmp'),
    XDG_DATA_HOME: join(setupDir, 'data'),
    XDG_CACHE_HOME: join(setupDir, 'cache'),
    XDG_STATE_HOME: join(setupDir, 'state'),
    npm_config_cache: join(setupDir, 'npm'),
    // Without a network the answer comes in seconds, not in a minute.
    npm_config_fetch_retry_mintimeout: '1000',
    npm_config_fetch_retry_maxtimeout: '5000',
    npm_config_update_notifier: 'false',
    npm_config_fund: 'false',
    npm_config_audit: 'false',
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) orExplain(setUp);
