// `npm start`: set-up, then a tracker and agents on this machine (start-fleet.mjs).
//
// Imports nothing else at first, so that an old Node is told to be old before it stumbles over newer syntax.
import { orExplain, setUp } from './setup.mjs';

orExplain(setUp);
const { start } = await import('./start-fleet.mjs');
await start(process.argv.slice(2));
