// The tracker's version, as package.json has it.

import { readFileSync } from 'node:fs';

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { readonly version: string };

export const TRACKER_VERSION = manifest.version;
