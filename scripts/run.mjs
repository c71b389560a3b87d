// Runs one TypeScript program of this checkout under the workspace's own Node, after the set-up: node scripts/run.mjs FILE [ARGS].
import { spawn } from 'node:child_process';
import { orExplain, root, setUp, workspaceNode } from './setup.mjs';

orExplain(setUp);
const child = spawn(workspaceNode, process.argv.slice(2), { cwd: root, stdio: 'inherit' });
// A terminal signals the child as well: this process only waits for its end.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.once('exit', (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 1;
});
