// Which token servers an origin may name. A realm at a foreign site would be handed credentials, or names of private images
// (CVE-2026-33540 in distribution). Where there are no credentials and all addresses are public, nothing is given away that the
// origin does not know itself: then any realm will do, as with registries whose token server is a sibling (docker.elastic.co).
//
// Rule otherwise: the origin's own host, a host below it, a host above it (registry.example.com -> example.com), or one that is configured
// or built in. Siblings need configuration: without the public suffix list `a.co.uk` and `b.co.uk` look like one site.

import { AgentError } from '../errors.ts';
import type { OriginEntry } from './origins.ts';

/** @param anonymous no credentials go along @throws AgentError ORIGIN_REALM_REFUSED */
export function checkedRealm(realm: string, base: URL, entry: OriginEntry, anonymous = false): URL {
  const url = URL.canParse(realm) ? new URL(realm) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw refused(`the realm "${realm.slice(0, 160)}" is no URL of a token server`, entry);
  }
  if (url.protocol === 'http:' && base.protocol !== 'http:') throw refused(`the realm ${url.origin} is not encrypted while ${base.origin} is`, entry);
  const harmless = anonymous && !entry.privateAllowed;
  if (!harmless && !belongs(url, base, entry)) throw refused(`the realm ${url.origin} does not belong to ${base.origin}`, entry);
  return url;
}

function belongs(realm: URL, base: URL, entry: OriginEntry): boolean {
  const [here, there] = [base.hostname, realm.hostname];
  if (here === there || entry.realms.includes(there) || entry.realms.includes(realm.host)) return true;
  const isName = /[a-z]$/.test(here) && here.includes('.');
  if (!isName) return false;
  return there.endsWith(`.${here}`) || (there.includes('.') && here.endsWith(`.${there}`));
}

function refused(message: string, entry: OriginEntry): AgentError {
  return new AgentError('ORIGIN_REALM_REFUSED', message, { detail: { origin: entry.name } });
}
