// Turns what sockets, TLS and origins say into AgentErrors of the ORIGIN_* rows: one place, so that one fault has one code.

import { AgentError, type ErrorCode } from '../errors.ts';

/** What a request is about; decides what a 404 means. */
export type RequestKind = 'manifest' | 'blob' | 'list' | 'token';

/** Where a failure happened, for log and reply. No credentials, no query (it may hold a signature). */
export interface Place {
  readonly origin: string;
  readonly url: URL;
  /** The proxy by which it was asked. */
  readonly proxy?: string;
}

const UNKNOWN = { manifest: 'MANIFEST_UNKNOWN', blob: 'BLOB_UNKNOWN', list: 'REPOSITORY_UNKNOWN' } as const;

const BY_CODE: Readonly<Record<string, ErrorCode>> = {
  ECONNREFUSED: 'ORIGIN_UNREACHABLE',
  ECONNRESET: 'ORIGIN_UNREACHABLE',
  EPIPE: 'ORIGIN_UNREACHABLE',
  ENOTFOUND: 'ORIGIN_UNREACHABLE',
  EAI_AGAIN: 'ORIGIN_UNREACHABLE',
  EHOSTUNREACH: 'ORIGIN_UNREACHABLE',
  ENETUNREACH: 'ORIGIN_UNREACHABLE',
  EADDRNOTAVAIL: 'ORIGIN_UNREACHABLE',
  UND_ERR_SOCKET: 'ORIGIN_UNREACHABLE',
  UND_ERR_PRX_CONN: 'ORIGIN_UNREACHABLE',
  // a proxy that refuses the tunnel; a body that was cancelled
  UND_ERR_ABORTED: 'ORIGIN_UNREACHABLE',
  ETIMEDOUT: 'ORIGIN_TIMEOUT',
  UND_ERR_CONNECT_TIMEOUT: 'ORIGIN_TIMEOUT',
  UND_ERR_HEADERS_TIMEOUT: 'ORIGIN_TIMEOUT',
  UND_ERR_BODY_TIMEOUT: 'ORIGIN_TIMEOUT',
  UND_ERR_HEADERS_OVERFLOW: 'ORIGIN_STATUS',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'ORIGIN_LENGTH',
  UND_ERR_PRX_TLS: 'ORIGIN_TLS',
  EPROTO: 'ORIGIN_TLS',
  UND_ERR_DESTROYED: 'DRAINING',
  UND_ERR_CLOSED: 'DRAINING',
};

/** Codes of X.509 verification and of OpenSSL. */
const TLS_CODE = /^(ERR_TLS_|ERR_SSL_|ERR_OSSL_|CERT_|CRL_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_EXCEEDED)/;

/** What the other side of a TLS connection says of our certificate. */
const CERTIFICATE_ALERT = /ALERT_(CERTIFICATE_REQUIRED|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_REVOKED|CERTIFICATE_EXPIRED|CERTIFICATE_UNKNOWN|UNKNOWN_CA)/;
/** nginx says the same in a page. */
const CERTIFICATE_PAGE = /required SSL certificate|SSL certificate error/i;

/** A failure before an answer was there (`body` false) or while its bytes came (`body` true). */
export function connectionError(error: unknown, place: Place, body: boolean): AgentError {
  const known = causes(error).find((cause) => cause instanceof AgentError);
  if (known !== undefined) return known;
  const systemCode = causes(error).map(codeOf).find((code) => agentCode(code) !== undefined);
  let code = agentCode(systemCode) ?? 'INTERNAL';
  // A connection that breaks in the middle of a body is the origin sending fewer bytes than it said.
  if (body && code === 'ORIGIN_UNREACHABLE') code = 'ORIGIN_LENGTH';
  if (!body && place.proxy !== undefined && isProxys(error, code, systemCode, place.url)) code = 'ORIGIN_PROXY';
  const said = error instanceof Error ? error.message : String(error);
  return new AgentError(code, `${place.origin} (${place.url.host}${place.proxy === undefined ? '' : ` by ${place.proxy}`}): ${said}`, {
    cause: error,
    detail: { origin: place.origin, host: place.url.host, ...(place.proxy !== undefined && { proxy: place.proxy }), ...(systemCode === undefined ? {} : { systemCode }) },
  });
}

/** Whether it was the proxy that failed, rather than the origin behind it: a connection that was never there, or a tunnel. */
function isProxys(error: unknown, code: ErrorCode, systemCode: string | undefined, url: URL): boolean {
  // What undici makes of a 407 to a plain request.
  if (code === 'INTERNAL') return causes(error).map(codeOf).includes('UND_ERR_INVALID_ARG');
  if (systemCode === 'UND_ERR_CONNECT_TIMEOUT' || systemCode === 'UND_ERR_PRX_TLS') return true;
  // Through a tunnel that stands it is the origin that hangs up.
  return code === 'ORIGIN_UNREACHABLE' && !(systemCode === 'UND_ERR_SOCKET' && url.protocol === 'https:');
}

/** Whether the other side ended a TLS connection without an answer, as some do where they want a client certificate. */
export function hungUp(error: AgentError): boolean {
  const code = systemCodeOf(error) ?? '';
  return ['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'].includes(code) || code.endsWith('ALERT_HANDSHAKE_FAILURE');
}

/** The system's word for the failure, such as ECONNREFUSED. */
export function systemCodeOf(error: AgentError): string | undefined {
  const code = error.detail?.['systemCode'];
  return typeof code === 'string' ? code : undefined;
}

/** What an answer that is no success means. `body` is the beginning of its body. */
export function statusError(status: number, body: string, kind: RequestKind, place: Place, retryAfterMs?: number): AgentError {
  const said = originError(body);
  const detail = { origin: place.origin, host: place.url.host, status, ...said };
  const message = `${place.origin} answered ${status}${said.originCode === undefined ? '' : ` ${said.originCode}`} for ${place.url.pathname}`;
  const code = status === 400 && CERTIFICATE_PAGE.test(body) ? 'ORIGIN_CLIENT_CERT' : statusCode(status, kind);
  return new AgentError(code, message, { detail, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });
}

function statusCode(status: number, kind: RequestKind): ErrorCode {
  if (status === 429) return 'ORIGIN_THROTTLED';
  if (kind === 'token') return status === 401 || status === 403 ? 'ORIGIN_UNAUTHORIZED' : 'ORIGIN_AUTH_FAILED';
  switch (status) {
    case 401:
      return 'ORIGIN_UNAUTHORIZED';
    case 403:
      return 'ORIGIN_DENIED';
    case 404:
      return UNKNOWN[kind];
    default:
      return 'ORIGIN_STATUS';
  }
}

/** The code and message of the OCI error body, where there is one. */
function originError(body: string): { originCode?: string; originMessage?: string } {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch (error) {
    // Many origins answer errors with a page; the status says enough.
    if (error instanceof SyntaxError) return {};
    throw error;
  }
  const first = field(field(parsed, 'errors'), '0');
  const code = field(first, 'code');
  const message = field(first, 'message');
  return {
    ...(typeof code === 'string' ? { originCode: code.slice(0, 64) } : {}),
    ...(typeof message === 'string' ? { originMessage: message.slice(0, 200) } : {}),
  };
}

/** Own property of an object or array; undefined for anything else. */
export function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Object.getOwnPropertyDescriptor(value, name)?.value : undefined;
}

function agentCode(code: string | undefined): ErrorCode | undefined {
  if (code === undefined) return undefined;
  if (CERTIFICATE_ALERT.test(code)) return 'ORIGIN_CLIENT_CERT';
  if (TLS_CODE.test(code)) return 'ORIGIN_TLS';
  if (code.startsWith('HPE_')) return 'ORIGIN_STATUS';
  return Object.hasOwn(BY_CODE, code) ? BY_CODE[code] : undefined;
}

/** The error and what it stands for: causes, and the attempts of a connection to several addresses. */
function causes(error: unknown, depth = 0): unknown[] {
  if (!(error instanceof Error) || depth > 4) return [error];
  const inner = error instanceof AggregateError ? error.errors : [];
  return [error, ...[error.cause, ...inner].filter((each) => each !== undefined).flatMap((each) => causes(each, depth + 1))];
}

function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error ? field(error, 'code') : undefined;
  return typeof code === 'string' ? code : undefined;
}
