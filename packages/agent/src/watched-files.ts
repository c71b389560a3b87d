// Files that are replaced while the agent runs, such as certificates. They are looked at every second: symbolic links that are swapped, as
// Kubernetes does, and folders on the network tell nobody of a change.

import { unwatchFile, watchFile } from 'node:fs';

const LOOK_INTERVAL_MS = 1000;

/** Calls `changed` after each change of one of the files, until the returned function is called. Keeps no process alive. */
export function watchFiles(files: readonly string[], changed: () => void): () => void {
  for (const file of files) watchFile(file, { interval: LOOK_INTERVAL_MS, persistent: false }, changed);
  return () => {
    for (const file of files) unwatchFile(file, changed);
  };
}
