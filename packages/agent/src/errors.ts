// Every failure the agent reports: one row each. docs/errors.md is checked against this table by errors.test.ts.
// Code that detects a fault throws an AgentError with its code and a `cause`; registry/ turns the row into a reply.

import type { OciErrorCode } from '@flotilla/shared/oci-error';

export type Fault = 'caller' | 'origin' | 'peer' | 'tracker' | 'disk' | 'agent';

interface ErrorRow {
  /** HTTP status on the local endpoint: 4xx only for what does not exist, may not be read or was asked wrongly, 503 for our own trouble. */
  readonly status: number;
  readonly oci: OciErrorCode;
  /** Whether the same request may succeed later without anybody changing anything. */
  readonly retryable: boolean;
  readonly fault: Fault;
  readonly help: string;
}

export const ERRORS = {
  NAME_INVALID: row(400, 'NAME_INVALID', false, 'caller', 'Write the repository in lower case: origin/path/name.'),
  NAME_UNKNOWN: row(404, 'NAME_UNKNOWN', false, 'caller', 'Name the origin in the path (127.0.0.1:5050/docker.io/library/nginx), or start the agent with --default-origin.'),
  DIGEST_INVALID: row(400, 'DIGEST_INVALID', false, 'caller', 'Digests are sha256:<64 hex> or sha512:<128 hex>.'),
  TAG_INVALID: row(404, 'MANIFEST_UNKNOWN', false, 'caller', 'No manifest has this tag: tags have at most 128 of [A-Za-z0-9_.-], and do not begin with . or -.'),
  RANGE_INVALID: row(416, 'SIZE_INVALID', false, 'caller', 'Ask for a range within the blob.'),
  RANGES_REFUSED: row(400, 'UNSUPPORTED', false, 'caller', 'Ask for fewer ranges at once, and for no byte twice.'),
  UNSUPPORTED: row(405, 'UNSUPPORTED', false, 'caller', 'The agent only pulls; push to the origin itself.'),
  ROUTE_UNKNOWN: row(404, 'NAME_UNKNOWN', false, 'caller', 'The endpoint speaks the pull part of the OCI distribution API under /v2/.'),
  PAGE_INVALID: row(400, 'UNSUPPORTED', false, 'caller', 'In a list of tags n is a number, and last a tag of the list.'),
  HTTP_INVALID: row(400, 'UNSUPPORTED', false, 'caller', 'The port speaks HTTP/1.1.'),
  HEADERS_TOO_LARGE: row(431, 'UNSUPPORTED', false, 'caller', 'Send fewer headers, or fewer ranges at once.'),
  TLS_ON_PLAIN_PORT: row(400, 'UNSUPPORTED', false, 'caller', 'This port speaks plain HTTP: mark the mirror as insecure in the client.'),
  PLAIN_ON_TLS_PORT: row(400, 'UNSUPPORTED', false, 'caller', 'This port speaks TLS: configure the mirror with https://, and the CA of its certificate.'),
  MANIFEST_UNKNOWN: row(404, 'MANIFEST_UNKNOWN', false, 'origin', 'The origin has no such manifest; check the tag.'),
  REPOSITORY_UNKNOWN: row(404, 'NAME_UNKNOWN', false, 'origin', 'The origin has no such repository; check the name.'),
  PLATFORM_UNKNOWN: row(404, 'MANIFEST_UNKNOWN', false, 'caller', 'Name one of the platforms that are there, with --platform.'),
  BLOB_UNKNOWN: row(404, 'BLOB_UNKNOWN', false, 'origin', 'The origin has no such blob in this repository.'),
  MANIFEST_TOO_LARGE: row(502, 'MANIFEST_INVALID', false, 'origin', 'Manifests over 4 MiB are refused, as registries do.'),
  MANIFEST_MALFORMED: row(502, 'MANIFEST_INVALID', false, 'origin', 'The origin sent a manifest that is no JSON object of a known type.'),
  ORIGIN_FORBIDDEN: row(404, 'NAME_UNKNOWN', false, 'caller', 'This address may not be an origin; configure it with --origin NAME=URL if it should be.'),
  ORIGIN_UNREACHABLE: row(503, 'UNAVAILABLE', true, 'origin', 'Check the origin and the network to it; what the fleet holds is still served by digest.'),
  ORIGIN_TLS: row(503, 'UNAVAILABLE', false, 'origin', "The origin's certificate was refused; name its CA as `ca` in the origin's settings (docs/origins.md)."),
  ORIGIN_CLIENT_CERT: row(503, 'UNAVAILABLE', false, 'origin', "The origin wants another client certificate; name it as clientCert and clientKey in the origin's settings."),
  ORIGIN_PROXY: row(503, 'UNAVAILABLE', true, 'origin', 'The proxy did not let the agent through to the origin; check httpProxy, httpsProxy and noProxy.'),
  ORIGIN_CREDENTIALS: row(503, 'UNAVAILABLE', true, 'origin', 'The credentials for the origin could not be had; the detail names the file or program.'),
  ORIGIN_TIMEOUT: row(503, 'UNAVAILABLE', true, 'origin', 'The origin accepted the connection but did not answer in time.'),
  ORIGIN_STATUS: row(503, 'UNAVAILABLE', true, 'origin', 'The origin answered with an unexpected status; it is in the detail.'),
  ORIGIN_UNAUTHORIZED: row(404, 'NAME_UNKNOWN', false, 'origin', 'The origin asks for credentials that this agent does not have, or the name does not exist there.'),
  ORIGIN_CREDENTIALS_REFUSED: row(404, 'NAME_UNKNOWN', false, 'origin', "The origin did not take this agent's own credentials; log in anew where the message says that they are from, or correct them there."),
  ORIGIN_DENIED: row(404, 'NAME_UNKNOWN', false, 'origin', 'The origin refuses this repository to this agent.'),
  ORIGIN_AUTH_FAILED: row(503, 'UNAVAILABLE', true, 'origin', "The origin's token server did not issue a token; the detail says why."),
  ORIGIN_REALM_REFUSED: row(503, 'UNAVAILABLE', false, 'origin', "The origin's token server lies at a foreign site or is not encrypted; name its host under `realms` in the origin's settings if you trust it."),
  ORIGIN_THROTTLED: row(503, 'UNAVAILABLE', true, 'origin', 'The origin limits requests (429); the agent waits as it asks.'),
  ORIGIN_REDIRECT: row(503, 'UNAVAILABLE', false, 'origin', 'The origin redirected too often, or to an address that is not allowed.'),
  ORIGIN_LISTING: row(503, 'UNAVAILABLE', false, 'origin', 'The origin sent a list of tags or referrers that cannot be read, or one without end.'),
  ORIGIN_LENGTH: row(503, 'UNAVAILABLE', true, 'origin', 'The origin sent fewer or more bytes than it said.'),
  DIGEST_MISMATCH: row(503, 'UNAVAILABLE', true, 'origin', 'The bytes do not have the digest that was asked for; nothing was stored.'),
  ACCESS_DENIED: row(404, 'NAME_UNKNOWN', false, 'caller', 'The origin asks for credentials; the message says whose were tried, and docs/rights.md how to give some.'),
  BLOB_DENIED: row(404, 'BLOB_UNKNOWN', false, 'caller', 'As ACCESS_DENIED, in the words after which podman asks the origin itself.'),
  CREDENTIALS_WANTED: row(401, 'UNAUTHORIZED', false, 'caller', 'Log in to this endpoint with the credentials for the origin; only with the setting "challenge".'),
  ACCESS_UNPROVEN: row(404, 'BLOB_UNKNOWN', false, 'origin', 'An origin that nobody configured says that it has this blob, but did not show it; name it with --origin if you trust it.'),
  ACCESS_UNDECIDED: row(503, 'UNAVAILABLE', true, 'origin', 'The origin is down, and this caller has not read this repository before; what is served then is the setting "originDown".'),
  TRACKER_UNREACHABLE: row(503, 'UNAVAILABLE', true, 'tracker', 'Check --tracker and the network; pulls go on without it.'),
  TRACKER_REFUSED: row(503, 'UNAVAILABLE', false, 'tracker', 'The tracker refused this agent; the detail says why. Copy DIR/join-token again.'),
  TRACKER_PIN: row(503, 'UNAVAILABLE', false, 'tracker', "The tracker's CA is not the one pinned in the join token: wrong token, or somebody in between."),
  TRACKER_PROTOCOL: row(503, 'UNAVAILABLE', true, 'tracker', 'The tracker sent what this agent does not understand; run the same release on both.'),
  TRACKER_VERSION: row(503, 'UNAVAILABLE', false, 'tracker', 'Agent and tracker may be one protocol version apart; upgrade the one that the message names. Pulls go on without the tracker.'),
  JOIN_TOKEN_INVALID: row(503, 'UNAVAILABLE', false, 'caller', 'Copy DIR/join-token of the tracker again, whole.'),
  PULL_STALLED: row(503, 'UNAVAILABLE', true, 'agent', 'No source delivered a byte for a minute; see `flotilla status`.'),
  TOO_MANY_PULLS: row(503, 'UNAVAILABLE', true, 'caller', 'Wait until one of the running `flotilla pull` has ended.'),
  ROLLOUT_STOPPED: row(503, 'UNAVAILABLE', false, 'caller', 'The rollout was paused or cancelled; resume it, or make a new one.'),
  ROLLOUT_TASK_UNKNOWN: row(503, 'UNAVAILABLE', false, 'agent', 'The tracker is of a newer release: upgrade this agent.'),
  IMAGE_INCOMPLETE: row(503, 'UNAVAILABLE', false, 'disk', 'Roll the image out to this host, and give its store room to keep it (--store-limit).'),
  HOOK_FAILED: row(503, 'UNAVAILABLE', false, 'caller', "Look at the hook's output, and at `rolloutHook` in the host's settings."),
  DRAINING: row(503, 'UNAVAILABLE', true, 'agent', 'The agent is stopping; try again in a moment.'),
  DISK_FULL: row(503, 'UNAVAILABLE', true, 'disk', 'Free space in the data folder, or raise --store-limit.'),
  STORE_CORRUPT: row(503, 'UNAVAILABLE', true, 'disk', 'A file of the store did not hold what was written; it was dropped. Check the disk.'),
  IDENTITY_DAMAGED: row(503, 'UNAVAILABLE', false, 'disk', 'Restore DIR/identity.key; or remove it, and the agent enrols as a new member.'),
  STORE_LOCKED: row(503, 'UNAVAILABLE', false, 'caller', 'Another agent uses this data folder; give each its own --data.'),
  STORE_LAYOUT: row(503, 'UNAVAILABLE', false, 'caller', 'The data folder was written by a newer version; upgrade, or give another --data.'),
  PORT_IN_USE: row(503, 'UNAVAILABLE', false, 'caller', 'Choose another port with the flag that is named.'),
  CONFIG_INVALID: row(503, 'UNAVAILABLE', false, 'caller', 'Correct the setting that is named; `flotilla config` prints all of them.'),
  INTERNAL: row(503, 'UNAVAILABLE', true, 'agent', 'A fault of the agent itself: please report it with the log line.'),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

export interface AgentErrorOptions extends ErrorOptions {
  /** Fields for the log and for `detail` in the reply. Never a credential. */
  readonly detail?: Readonly<Record<string, unknown>>;
  /** How long the origin asked us to wait, in ms. */
  readonly retryAfterMs?: number;
}

/** A failure with a row in ERRORS; `message` says what happened, the row what to do. */
export class AgentError extends Error {
  readonly code: ErrorCode;
  readonly detail: Readonly<Record<string, unknown>> | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options: AgentErrorOptions = {}) {
    super(message, options);
    this.name = 'AgentError';
    this.code = code;
    this.detail = options.detail;
    this.retryAfterMs = options.retryAfterMs;
  }

  get row(): ErrorRow {
    return ERRORS[this.code];
  }
}

/** Anything thrown, as an AgentError: what has no row of its own is INTERNAL, with its cause kept. */
export function toAgentError(error: unknown): AgentError {
  if (error instanceof AgentError) return error;
  return new AgentError('INTERNAL', error instanceof Error ? error.message : String(error), { cause: error });
}

function row(status: number, oci: OciErrorCode, retryable: boolean, fault: Fault, help: string): ErrorRow {
  return { status, oci, retryable, fault, help };
}
