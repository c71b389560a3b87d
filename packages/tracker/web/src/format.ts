// Figures as text: short, of steady width, decimal units as the settings take them. Times are UTC, as in the verdict and the logs.

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** Three digits that count: 1.24 GB, 340 MB. */
export function bytes(value: number): string {
  const [number, unit] = scaled(value);
  return `${number}\u00A0${unit}`;
}

export function rate(bytesPerSecond: number): string {
  return `${bytes(bytesPerSecond)}/s`;
}

/** Number and unit apart, for large figures. */
export function scaled(value: number): readonly [number: string, unit: string] {
  let scaledValue = Math.max(0, value);
  let at = 0;
  // 999.6 would be shown as 1000.
  while (scaledValue >= 999.5 && at < UNITS.length - 1) {
    scaledValue /= 1000;
    at++;
  }
  return [at === 0 ? String(Math.round(scaledValue)) : digits(scaledValue), UNITS[at]!];
}

/** 12,345 */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en');
}

/** From thousandths: 99.9 % is never rounded up to 100 %. */
export function share(thousandths: number): string {
  if (thousandths >= 1000) return '100\u00A0%';
  return thousandths > 0 && (thousandths < 100 || thousandths > 990) ? `${(Math.floor(thousandths) / 10).toFixed(1)}\u00A0%` : `${Math.floor(thousandths / 10)}\u00A0%`;
}

/** 45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h */
export function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 1) return 'under\u00A01\u00A0s';
  if (seconds < 60) return `${seconds}\u00A0s`;
  if (seconds < 600) return two(seconds, 60, 'min', 1, 's');
  if (seconds < 3600) return `${Math.round(seconds / 60)}\u00A0min`;
  return seconds < 86_400 ? two(seconds, 3600, 'h', 60, 'min') : two(seconds, 86_400, 'd', 3600, 'h');
}

export function ago(atMs: number, nowMs: number): string {
  return nowMs - atMs < 1500 ? 'now' : `${duration(nowMs - atMs)} ago`;
}

/** 02:14:09 */
export function clock(atMs: number): string {
  return new Date(atMs).toISOString().slice(11, 19);
}

/** 02:14 today, else 24 Nov 02:14 */
export function moment(atMs: number, nowMs: number): string {
  return onDay(clock(atMs).slice(0, 5), atMs, nowMs);
}

/** 02:14:09 today, else 24 Nov 02:14:09 */
export function momentExactly(atMs: number, nowMs: number): string {
  return onDay(clock(atMs), atMs, nowMs);
}

/** sha256:0123456789ab… */
export function shortDigest(digest: string): string {
  const colon = digest.indexOf(':');
  return digest.slice(colon + 1, colon + 13);
}

/** The end of a peer id: its beginning is the same for all. */
export function shortPeer(peerId: string): string {
  return peerId.slice(-8);
}

export function plural(number: number, one: string, many = `${one}s`): string {
  return `${count(number)}\u00A0${number === 1 ? one : many}`;
}

function onDay(time: string, atMs: number, nowMs: number): string {
  const [day, today] = [atMs, nowMs].map((ms) => new Date(ms).toISOString().slice(0, 10));
  if (day === today) return time;
  return `${new Date(atMs).toLocaleDateString('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' })} ${time}`;
}

function digits(value: number): string {
  return value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1) : String(Math.round(value));
}

function two(seconds: number, large: number, largeUnit: string, small: number, smallUnit: string): string {
  const rest = Math.floor((seconds % large) / small);
  return `${Math.floor(seconds / large)}\u00A0${largeUnit}${rest === 0 ? '' : `\u00A0${rest}\u00A0${smallUnit}`}`;
}
