// The agent's version, as package.json has it.

import { readFileSync } from 'node:fs';

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { readonly version: string };

export const AGENT_VERSION = manifest.version;
