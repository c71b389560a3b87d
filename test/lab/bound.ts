// The fluid bound: nobody can be faster with these links (Kumar & Ross). Rates are bits per second, sizes bytes, times seconds.

/** TCP payload in a 1500-byte frame, over the frame with its Ethernet header. */
export const PAYLOAD_SHARE = 0.956;

export interface Links {
  readonly originBps: number;
  /** Each host's rate, the same up and down. */
  readonly hostsBps: readonly number[];
}

/** How long `bytes` take over a link that carries nothing else. */
export function transferS(bytes: number, linkBps: number): number {
  return (bytes * 8) / (linkBps * PAYLOAD_SHARE);
}

/** T* of hosts that all start at once: max( F/u_s , F/min d_i , N F/(u_s + sum u_i) ). */
export function crowdS(bytes: number, { originBps, hostsBps }: Links): number {
  return fastHostsS(bytes, { originBps, hostsBps }, hostsBps);
}

/** The same for the last of some of the hosts, while all take part: only their own downlinks count. */
export function fastHostsS(bytes: number, { originBps, hostsBps }: Links, judgedBps: readonly number[]): number {
  const sendingBps = originBps + sum(hostsBps);
  return Math.max(transferS(bytes, originBps), transferS(bytes, Math.min(...judgedBps)), transferS(bytes * hostsBps.length, sendingBps));
}

/** Hosts that start at times of their own: nobody ends before its own link has carried the blob, nor before all links have carried all. */
export function staggeredS(bytes: number, links: Links, startsS: readonly number[]): number {
  const own = links.hostsBps.map((bps, host) => startsS[host]! + transferS(bytes, bps));
  return Math.max(crowdS(bytes, links), ...own);
}

export interface ZoneLinks {
  /** The zone's link to all others and to the origin, the same in and out. */
  readonly linkBps: number;
  readonly hostsBps: readonly number[];
}

/**
 * T* of zones: nobody can be faster than a crowd of all hosts, than a crowd of the zones as if each were one host, or than each zone
 * taken for a crowd whose origin is its link.
 */
export function zonesS(bytes: number, originBps: number, zones: readonly ZoneLinks[]): number {
  const all = crowdS(bytes, { originBps, hostsBps: zones.flatMap(({ hostsBps }) => hostsBps) });
  const between = crowdS(bytes, { originBps, hostsBps: zones.map(({ linkBps }) => linkBps) });
  return Math.max(all, between, ...zones.map(({ linkBps, hostsBps }) => crowdS(bytes, { originBps: linkBps, hostsBps })));
}

/** Waves of equal hosts, each from when the one before has ended; who is done helps those that follow. */
export function wavesS(bytes: number, originBps: number, hostBps: number, waves: readonly number[]): number {
  let doneHosts = 0;
  let totalS = 0;
  for (const hosts of waves) {
    const senders = originBps + (doneHosts + hosts) * hostBps;
    const firstCopyS = doneHosts === 0 ? transferS(bytes, originBps) : 0;
    totalS += Math.max(firstCopyS, transferS(bytes, hostBps), transferS(bytes * hosts, senders));
    doneHosts += hosts;
  }
  return totalS;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
