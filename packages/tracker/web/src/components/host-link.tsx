// A host by its number of the live stream: its name, and the way to its page.

import type { JSX } from 'preact';
import { shortPeer } from '../format.ts';
import { useHosts } from '../topics.ts';

export function HostLink({ n }: { readonly n: number }): JSX.Element {
  const info = useHosts().value?.infos.get(n);
  if (info === undefined) return <span>host {n}</span>;
  return <a href={`/hosts/${info.peerId}`}>{info.name === '' ? `…${shortPeer(info.peerId)}` : info.name}</a>;
}
