// Loaded into an agent that shall lie (`node --import`): what it sends on of a download is wrong in its first byte, under the digest of the right bytes.
// It wraps a public method from outside; the agent itself has no code for it. What its own client gets is right.

import { Download } from '@flotilla/agent/content/download';

lie(Download.prototype);

/** The swarm alone asks a download for chunks by this method. */
function lie(prototype: Pick<Download, 'readChunk'>): void {
  const honest = prototype['readChunk'];
  prototype['readChunk'] = async function (this: Download, index) {
    const wrong = Uint8Array.from(await honest.call(this, index));
    if (wrong.length > 0) wrong[0] = wrong[0]! ^ 1;
    return wrong;
  };
}
