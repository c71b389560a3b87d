// What people write in settings, read into what the agent uses: sizes, rates, addresses, URLs. Pure.
// A reader gets what stood in the file (any YAML value) or on the command line (text) and returns undefined for what it cannot read;
// the limits of a value are the schema's business (config.ts).

import { isIP } from 'node:net';
import { formatAddress, type SocketAddress } from './listen.ts';

export type Read<T> = (raw: unknown) => T | undefined;

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};
const BIT_UNITS: Readonly<Record<string, number>> = { bit: 1 / 8, kbit: 1e3 / 8, mbit: 1e6 / 8, gbit: 1e9 / 8 };

/** `200MB`, `1GiB`, `4096`: bytes. */
export const readBytes: Read<number> = (raw) => readAmount(raw, '', UNITS);

/** `50MB/s`, `400Mbit/s`, also without `/s`: bytes per second. */
export const readRate: Read<number> = (raw) => readAmount(raw, '(?:/s)?', { ...UNITS, ...BIT_UNITS });

function readAmount(raw: unknown, suffix: string, units: Readonly<Record<string, number>>): number | undefined {
  if (typeof raw !== 'number' && typeof raw !== 'string') return undefined;
  const match = new RegExp(`^\\s*(\\d+(?:\\.\\d+)?)\\s*([a-z]*?)${suffix}\\s*$`, 'i').exec(String(raw));
  const unit = units[match?.[2]?.toLowerCase() ?? 'none'];
  if (match === null || unit === undefined) return undefined;
  const bytes = Math.floor(Number(match[1]) * unit);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

export const readText: Read<string> = (raw) => (typeof raw === 'string' || typeof raw === 'number' ? String(raw) : undefined);

export const readNumber: Read<number> = (raw) => {
  if (typeof raw === 'number') return raw;
  return typeof raw === 'string' && /^\s*\d+(\.\d+)?\s*$/.test(raw) ? Number(raw) : undefined;
};

export const readBoolean: Read<boolean> = (raw) => {
  if (typeof raw === 'boolean') return raw;
  return raw === 'true' ? true : raw === 'false' ? false : undefined;
};

/** A glob over `origin/repository`: what is not of names and wildcards is a slip, and a rule without a slash would never match. */
export const readPattern: Read<string> = (raw) => (typeof raw === 'string' && (raw === '**' || /^[a-z0-9.:_*?{},[\]!-]+(\/[a-z0-9._*?{},[\]!-]+)+$/.test(raw)) ? raw : undefined);

/** `127.0.0.1:5050`, `[::1]:5050`, `localhost:5050`. */
export const readListen: Read<SocketAddress> = (raw) => {
  const { host, port } = splitHost(raw) ?? {};
  if (host === undefined || port === undefined) return undefined;
  if (host === 'localhost') return { host: '127.0.0.1', port };
  return isIP(host) === 0 ? undefined : { host, port };
};

/** Where others reach this agent: a host or an address, with a port where it is not the one listened on. */
export interface AdvertisedAddress {
  readonly host: string;
  readonly port?: number;
}

const HOSTNAME = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\.?$/i;

/** `10.0.0.7`, `10.0.0.7:5051`, `host.example:5051`, `[2001:db8::7]:5051`. */
export const readAdvertise: Read<AdvertisedAddress> = (raw) => {
  const split = splitHost(raw);
  if (split === undefined || split.port === 0) return undefined;
  const { host, port } = split;
  if (isIP(host) === 0 && (!HOSTNAME.test(host) || /^[\d.]+$/.test(host))) return undefined;
  return { host, ...(port !== undefined && { port }) };
};

export function formatAdvertised({ host, port }: AdvertisedAddress): string {
  return port === undefined ? host : formatAddress({ host, port });
}

/** http or https, without credentials, query or fragment; returned without a slash at its end. */
export const readUrl: Read<string> = (raw) => {
  if (typeof raw !== 'string' || !URL.canParse(raw)) return undefined;
  const url = new URL(raw);
  const plain = url.username === '' && url.password === '' && url.search === '' && url.hash === '';
  if (!plain || !/^https?:$/.test(url.protocol) || url.hostname === '') return undefined;
  return url.href.replace(/\/+$/, '');
};

/** A proxy as in HTTP_PROXY: without a scheme it is http. `none`, as an empty text: no proxy. Returned as a URL, which may hold a password. */
export const readProxy: Read<string> = (raw) => {
  if (raw === 'none') return '';
  if (typeof raw !== 'string' || raw.trim() === '') return undefined;
  const text = /^[a-z][a-z0-9+.-]*:\/\//i.test(raw) ? raw : `http://${raw}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const whole = url !== undefined && /^https?:$/.test(url.protocol) && url.hostname !== '' && url.pathname === '/' && url.search === '' && url.hash === '';
  return whole ? url.href.replace(/\/$/, '') : undefined;
};

/** A text with URLs in it, for people: without the names and passwords that stand in them. */
export function withoutUserinfo(text: string): string {
  return text.replace(/\/\/[^/\s"']*@/g, '//(hidden)@');
}

function splitHost(raw: unknown): { host: string; port: number | undefined } | undefined {
  if (typeof raw !== 'string') return undefined;
  const text = raw.trim();
  if (isIP(text) === 6) return { host: text, port: undefined };
  const match = /^(?:\[([^\]]+)\]|([^:[\]/\s]+))(?::(\d{1,5}))?$/.exec(text);
  if (match === null) return undefined;
  const [, bracketed, bare, digits] = match;
  if (bracketed !== undefined && isIP(bracketed) !== 6) return undefined;
  const port = digits === undefined ? undefined : Number(digits);
  if (port !== undefined && port > 65_535) return undefined;
  return { host: bracketed ?? bare!, port };
}

/** Bytes as a person reads them; exact values stay exact. */
export function formatBytes(bytes: number): string {
  for (const [unit, factor] of [['GiB', 2 ** 30], ['MiB', 2 ** 20], ['GB', 1e9], ['MB', 1e6], ['KiB', 2 ** 10], ['kB', 1e3]] as const) {
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return `${bytes}B`;
}
