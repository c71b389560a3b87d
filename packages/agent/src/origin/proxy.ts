// Which proxy a request goes by: HTTP_PROXY, HTTPS_PROXY and NO_PROXY as Go's programs read them. Pure.
//
// This host itself is never reached by a proxy. Non-goal: proxies by script (PAC), SOCKS.

import { BlockList, isIP } from 'node:net';

/** URLs of proxies by the scheme of the request; `no`: hosts that are reached directly. */
export interface ProxySettings {
  readonly http?: string;
  readonly https?: string;
  /** With commas: `*`, names (and all below them), `.names` (only below), addresses, CIDR blocks; each but the last with an optional port. */
  readonly no?: string;
}

export class ProxyRules {
  readonly #proxies: Readonly<Record<string, URL | undefined>>;
  readonly #direct: ((host: string, port: string) => boolean)[];

  constructor({ http, https, no = '' }: ProxySettings) {
    const urlOf = (text: string | undefined): URL | undefined => (text === undefined || text === '' ? undefined : new URL(text));
    this.#proxies = { 'http:': urlOf(http), 'https:': urlOf(https) };
    this.#direct = no.split(/[,\s]+/).filter((entry) => entry !== '').map(ruleOf);
  }

  /** undefined: directly. */
  proxyFor(url: URL): URL | undefined {
    const proxy = this.#proxies[url.protocol];
    if (proxy === undefined) return undefined;
    const host = bareHost(url.hostname);
    if (host === 'localhost' || host.endsWith('.localhost') || LOOPBACK(host)) return undefined;
    const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port;
    return this.#direct.some((fits) => fits(host, port)) ? undefined : proxy;
  }
}

const LOOPBACK = blockRule('127.0.0.0/8', '::1/128');

function ruleOf(entry: string): (host: string, port: string) => boolean {
  if (entry === '*') return () => true;
  const block = blockOf(entry);
  if (block !== undefined) return (host) => block(host);
  const { host, port } = splitEntry(entry.toLowerCase());
  const portFits = (given: string): boolean => port === undefined || port === given;
  if (isIP(host) !== 0) {
    const same = blockRule(`${host}/${isIP(host) === 4 ? 32 : 128}`);
    return (given, givenPort) => same(given) && portFits(givenPort);
  }
  const below = host.replace(/^\*?\./, '.');
  if (below.startsWith('.')) return (given, givenPort) => given.endsWith(below) && portFits(givenPort);
  return (given, givenPort) => (given === host || given.endsWith(`.${host}`)) && portFits(givenPort);
}

/** A test for a CIDR block; undefined: the text is none. */
function blockOf(entry: string): ((host: string) => boolean) | undefined {
  const [address = '', prefix = '', ...more] = entry.split('/');
  const family = isIP(address);
  const fits = family !== 0 && more.length === 0 && /^\d{1,3}$/.test(prefix) && Number(prefix) <= (family === 4 ? 32 : 128);
  return fits ? blockRule(entry) : undefined;
}

function blockRule(...blocks: readonly string[]): (host: string) => boolean {
  const list = new BlockList();
  for (const block of blocks) {
    const [address = '', prefix = ''] = block.split('/');
    list.addSubnet(address, Number(prefix), isIP(address) === 4 ? 'ipv4' : 'ipv6');
  }
  return (host) => isIP(host) !== 0 && list.check(host, isIP(host) === 4 ? 'ipv4' : 'ipv6');
}

function splitEntry(entry: string): { host: string; port: string | undefined } {
  if (isIP(entry) !== 0) return { host: entry, port: undefined };
  const [, host = entry, port] = /^(.*?)(?::(\d+))?$/.exec(entry) ?? [];
  return { host: bareHost(host), port };
}

function bareHost(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '').toLowerCase();
}
