// A host by its peer id, with the name where one is known.

import type { JSX } from 'preact';
import { shortPeer } from '../format.ts';

export function PeerLink({ peerId, name }: { readonly peerId: string; readonly name: string }): JSX.Element {
  return (
    <a class="nowrap" href={`/hosts/${peerId}`} title={peerId}>
      {name === '' ? `…${shortPeer(peerId)}` : name}
    </a>
  );
}

/** A blob or image by its digest. */
export function DigestLink({ digest, to }: { readonly digest: string; readonly to: 'images' | 'swarms' }): JSX.Element {
  return (
    <a href={`/${to}/${digest}`} title={digest}>
      <code>{digest.slice(digest.indexOf(':') + 1, digest.indexOf(':') + 13)}</code>
    </a>
  );
}
