// Builds the dashboard (packages/tracker/web) where its sources, or what it is built with, have changed since the last time (the stamp).
//
// The stamp lies in the output itself and is written last: an output that is gone or half made is made again. Reading all sources takes a few ms.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const WEB = join('packages', 'tracker', 'web');
/** Folders and files that the output is made of. */
const SOURCES = [join(WEB, 'src'), join(WEB, 'index.html'), join(WEB, 'vite.config.ts'), join('packages', 'shared', 'src'), 'pnpm-lock.yaml'];

/**
 * @param {string} root of the checkout
 * @param {string} node that runs Vite
 * @returns {string | undefined} what Vite printed where it failed
 */
export function buildDashboard(root, node) {
  const stampFile = join(root, WEB, 'dist', '.stamp');
  const stamp = stampOf(root);
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return undefined;
  const vite = join(root, 'packages', 'tracker', 'node_modules', 'vite', 'bin', 'vite.js');
  const { status, stdout, stderr } = spawnSync(node, [vite, 'build', '--config', join(WEB, 'vite.config.ts')], { cwd: root, encoding: 'utf8', env: { ...process.env, NODE_ENV: 'production' } });
  if (status !== 0) return `${stdout ?? ''}${stderr ?? ''}`;
  writeFileSync(stampFile, stamp);
  return undefined;
}

/** @param {string} root */
function stampOf(root) {
  const hash = createHash('sha256');
  for (const source of SOURCES) {
    const path = join(root, source);
    const files = source.includes('src') ? readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name)) : [path];
    for (const file of files.sort()) {
      if (!file.includes('.test.')) hash.update(`${file.slice(root.length)}\n`).update(readFileSync(file)).update('\n');
    }
  }
  return hash.digest('hex');
}
