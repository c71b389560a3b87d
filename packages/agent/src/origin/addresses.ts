// Which network addresses an origin may have. A name from a URL must not become a way into the host's own network:
// hosts that nobody configured are reached at public addresses only, and metadata services by nobody.
//
// Invariant: the address that was checked is the address that is connected to (the check sits in the lookup of the connection),
// so a name that changes its answer gains nothing.

import { BlockList, isIP, type LookupFunction } from 'node:net';
import { AgentError } from '../errors.ts';

/** Instance metadata and link-local: credentials of the machine lie there. */
const NEVER = subnets(
  ['169.254.0.0/16', '100.100.100.200/32', '192.0.0.192/32', '168.63.129.16/32'],
  ['fe80::/10', 'fd00:ec2::254/128', 'fd20:ce::254/128'],
);

/** IPv4 that is not globally reachable (IANA special-purpose registry), multicast and reserved. */
const PRIVATE_V4 = subnets(
  ['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24', '192.0.2.0/24',
    '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4'],
  [],
);

/** All of IPv6 that is given out, less what tunnels (Teredo, 6to4) or documents. */
const GLOBAL_V6 = subnets([], ['2000::/3']);
const SPECIAL_V6 = subnets([], ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20']);

/** Whether an origin may be reached at this address. Text that is no address may not. */
export function isAllowedAddress(address: string, privateAllowed: boolean): boolean {
  const bare = address.replace(/%.*$/, '');
  const family = isIP(bare);
  if (family === 0) return false;
  if (family === 4) return !NEVER.check(bare, 'ipv4') && (privateAllowed || !PRIVATE_V4.check(bare, 'ipv4'));
  if (NEVER.check(bare, 'ipv6')) return false;
  const embedded = embeddedV4(bare);
  if (embedded !== undefined) return isAllowedAddress(embedded, privateAllowed);
  return privateAllowed || (GLOBAL_V6.check(bare, 'ipv6') && !SPECIAL_V6.check(bare, 'ipv6'));
}

/** Refuses a URL whose host is a forbidden address; names are checked when they are looked up. @throws AgentError ORIGIN_FORBIDDEN */
export function checkLiteral(hostname: string, privateAllowed: boolean): void {
  const bare = hostname.replace(/^\[(.*)\]$/, '$1');
  if (isIP(bare) !== 0 && !isAllowedAddress(bare, privateAllowed)) throw forbidden(hostname);
}

/** A `lookup` for sockets that leaves out forbidden addresses and fails with ORIGIN_FORBIDDEN where none is left. */
export function guardedLookup(lookup: LookupFunction, privateAllowed: boolean): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) {
        callback(error, [], 0);
        return;
      }
      const allowed = (Array.isArray(addresses) ? addresses : []).filter(({ address }) => isAllowedAddress(address, privateAllowed));
      const [first] = allowed;
      if (first === undefined) callback(forbidden(hostname), [], 0);
      else if (options.all === true) callback(null, allowed);
      else callback(null, first.address, first.family);
    });
  };
}

/** The IPv4 address inside a mapped (::ffff:0:0/96) or NAT64 (64:ff9b::/96) address. */
function embeddedV4(address: string): string | undefined {
  // The URL parser writes every IPv6 address in one way.
  const text = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const match = /^(?:::ffff|64:ff9b:):(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,4})$/.exec(text);
  if (match === null) return undefined;
  const high = Number.parseInt(match[1] ?? '0', 16);
  const low = Number.parseInt(match[2] ?? '0', 16);
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

function forbidden(host: string): AgentError {
  return new AgentError('ORIGIN_FORBIDDEN', `${host} has no address that an origin may have`, { detail: { host } });
}

function subnets(v4: readonly string[], v6: readonly string[]): BlockList {
  const list = new BlockList();
  for (const text of v4) add(list, text, 'ipv4');
  for (const text of v6) add(list, text, 'ipv6');
  return list;
}

function add(list: BlockList, text: string, family: 'ipv4' | 'ipv6'): void {
  const slash = text.indexOf('/');
  list.addSubnet(text.slice(0, slash), Number(text.slice(slash + 1)), family);
}
