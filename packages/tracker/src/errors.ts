// Every failure the tracker reports: one row each. Over HTTP they are problem details (RFC 9457), on the command line one line.

import type { Problem } from '@flotilla/shared/tracker-api';

interface ErrorRow {
  /** HTTP status; for faults of the command line what it would be. */
  readonly status: number;
  readonly title: string;
  readonly help: string;
  /** Exit code of the program: 2 for what is wrong with the command line or the settings. */
  readonly exitCode: 1 | 2;
}

export const ERRORS = {
  REQUEST_INVALID: row(400, 'Request is malformed', 'The detail names the field; run the same release on agent and tracker.'),
  ROUTE_UNKNOWN: row(404, 'No such route', 'The API lies under /api/v1; see docs/protocol.md.'),
  BODY_TOO_LARGE: row(413, 'Body is too large', 'Split the batch: at most 1 MiB.'),
  TOO_MANY_REQUESTS: row(429, 'Too many requests', 'Try again in a moment.'),
  TOKEN_UNKNOWN: row(401, 'Join token is not the current one', "Copy the tracker's DIR/join-token again: it may have been rotated."),
  TOKEN_PROOF_WRONG: row(401, 'Proof of the join token is wrong', "Copy the tracker's DIR/join-token again, whole."),
  CLOCK_SKEW: row(401, 'Time of the request is off', 'Set the clocks of agent and tracker: at most 5 minutes apart.'),
  KEY_INVALID: row(400, 'Public key does not fit the peer id', 'Agents identify themselves with an Ed25519 libp2p key.'),
  SIGNATURE_WRONG: row(401, 'Signature is wrong', 'The agent does not hold the key that it enrolled with.'),
  REPLAYED: row(401, 'Request was used before', 'Make a new nonce for every session.'),
  PROTOCOL_UNSUPPORTED: row(400, 'Releases are too far apart', 'Upgrade the one that the detail names: agent and tracker may be one protocol version apart.'),
  MEMBER_UNKNOWN: row(403, 'Not a member of this fleet', 'Enrol with the join token first.'),
  MEMBER_BANNED: row(403, 'Expelled or in quarantine', 'Look at the agent on the dashboard or in /api/v1/status; an operator may readmit it.'),
  FLEET_FULL: row(503, 'The fleet has as many members as it may', 'Remove members that are gone.'),
  SESSION_UNKNOWN: row(404, 'No such session', 'Open a new session.'),
  MAC_WRONG: row(401, 'Message code is wrong', 'Open a new session.'),
  SEQUENCE_WRONG: row(409, 'Message number is out of order', 'Open a new session.'),
  CA_NONE: row(404, 'This tracker has no CA of its own', 'It speaks plain HTTP, or has a certificate that others issued.'),
  OPERATOR_UNAUTHORIZED: row(401, 'Operator is not signed in', 'Sign in by the link of `flotilla-tracker login`, or send a token, such as the text of DIR/operator-token, as a Bearer token.'),
  OPERATOR_FORBIDDEN: row(403, 'Role does not allow this', 'Use a token with a larger role: read, operate, admin.'),
  OPERATOR_TOKEN_EXISTS: row(409, 'A token has this name', 'Choose another name, or revoke that token first.'),
  OPERATOR_TOKEN_UNKNOWN: row(404, 'No such token', 'GET /api/v1/tokens lists them.'),
  OPERATOR_TOKENS_FULL: row(409, 'There are as many tokens as there may be', 'Revoke tokens that nobody uses.'),
  LOGIN_CODE_WRONG: row(401, 'Login code is not good', 'Run `flotilla-tracker login` again and open its link within ten minutes; it works once.'),
  ORIGIN_FOREIGN: row(403, 'Request comes from a page of another origin', "Open the tracker's own dashboard; scripts send a Bearer token."),
  HOST_UNKNOWN: row(404, 'No such host', 'GET /api/v1/hosts lists the hosts of the fleet.'),
  IMAGE_UNKNOWN: row(404, 'No such image', 'GET /api/v1/images lists those that hosts have told of.'),
  PULL_UNKNOWN: row(404, 'No such pull', 'Pulls are kept for 7 days; GET /api/v1/pulls lists them.'),
  SWARM_UNKNOWN: row(404, 'Nobody holds or wants this blob', 'Hosts tell what they hold while they are connected.'),
  BRAKE_INVALID: row(400, 'Brake holds nothing back', 'Give at least one of stopUploads, originOnly, downloadLimit, uploadLimit, zoneLimit.'),
  BRAKE_UNKNOWN: row(404, 'No such brake', 'It was released, or its time is over; GET /api/v1/brakes lists those that are on.'),
  BRAKES_FULL: row(409, 'There are as many brakes as there may be', 'Release some.'),
  MEMBER_CONNECTED: row(409, 'Member is connected', 'Stop its agent first, or expel it.'),
  TOPICS_INVALID: row(400, 'Topics are not known', 'Such as topics=fleet,hosts; at most eight.'),
  LISTENERS_FULL: row(503, 'As many listen as may', 'Close pages of the dashboard that nobody looks at.'),
  NOT_RUNNING: row(500, 'No tracker runs with this data folder', 'Start it first, or name its folder with --data.'),
  IMAGE_INVALID: row(400, 'Image name cannot be used', 'Write it in full, such as docker.io/library/nginx:1.27.'),
  SELECTOR_INVALID: row(400, 'Selection of hosts cannot be read', 'Write zone=a,role!=db,name=web-*; keys are zone, name, peer and labels.'),
  WAVES_INVALID: row(400, 'Waves cannot be read', 'Write numbers of hosts or percentages, none less than the one before, the last 100%: 1,10%,100%.'),
  NO_HOSTS: row(422, 'No host is meant', 'Look at the hosts, their zones and labels in /api/v1/status; each has to have been connected once.'),
  DEADLINE_PASSED: row(422, 'The deadline has passed', 'Give a time in the future; check the clocks.'),
  ROLLOUT_UNKNOWN: row(404, 'No such rollout', 'GET /api/v1/rollouts lists those that are kept.'),
  ROLLOUT_STATE: row(409, 'The rollout is not in a state for that', 'GET /api/v1/rollouts/ID shows its state; one that was cancelled or has expired has to be made anew.'),
  ROLLOUTS_FULL: row(409, 'There are as many rollouts at work as there may be', 'Wait for one to end, or cancel one.'),
  STOPPING: row(503, 'The tracker is stopping', 'Try again in a moment.'),
  PORT_IN_USE: row(500, 'Port is in use', 'Choose another with --listen.'),
  LISTEN_FAILED: row(500, 'Cannot listen', 'Give an address of this machine, and a port that you may use, to --listen.'),
  CONFIG_INVALID: row(500, 'A setting is wrong', '`flotilla-tracker config` prints all of them.', 2),
  STATE_UNSUPPORTED: row(500, 'This kind of state is not supported', 'Use --state level:DIR.', 2),
  STATE_LOCKED: row(500, 'State is in use', 'Another tracker uses this data folder; give each its own --data.'),
  STATE_FAILED: row(500, 'State cannot be read or written', 'Check the disk and the rights of the data folder.'),
  CERTIFICATE_UNUSABLE: row(500, 'Certificate cannot be used', 'Give --tls-cert and --tls-key as PEM files that belong together.', 2),
  TOKEN_NONE: row(500, 'There is no join token yet', 'Start the tracker once with this --data; it makes one.'),
  INTERNAL: row(500, 'Fault of the tracker itself', 'Please report it with the log line.'),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

/** A failure with a row in ERRORS; `message` says what happened, the row what to do. */
export class TrackerError extends Error {
  readonly code: ErrorCode;
  /** Fields for the log. Never a secret. */
  readonly detail: Readonly<Record<string, unknown>> | undefined;

  constructor(code: ErrorCode, message: string, options: ErrorOptions & { detail?: Readonly<Record<string, unknown>> } = {}) {
    super(message, options);
    this.name = 'TrackerError';
    this.code = code;
    this.detail = options.detail;
  }

  get row(): ErrorRow {
    return ERRORS[this.code];
  }
}

/** Anything thrown, as a TrackerError: what has no row of its own is INTERNAL, with its cause kept. */
export function toTrackerError(error: unknown): TrackerError {
  if (error instanceof TrackerError) return error;
  const { code, statusCode, message } = error as { code?: unknown; statusCode?: unknown; message?: unknown };
  const text = typeof message === 'string' ? message : String(error);
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new TrackerError('BODY_TOO_LARGE', text, { cause: error });
  if (statusCode === 429) return new TrackerError('TOO_MANY_REQUESTS', text, { cause: error });
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) return new TrackerError('REQUEST_INVALID', text, { cause: error });
  return new TrackerError('INTERNAL', text, { cause: error });
}

/** The reply's body. What went wrong inside is for the log alone. */
export function toProblem(error: TrackerError): Problem {
  const { status, title, help } = error.row;
  const detail = error.code === 'INTERNAL' ? help : `${error.message}. ${help}`;
  return { type: `urn:flotilla:tracker:${error.code}`, title, status, code: error.code, detail };
}

function row(status: number, title: string, help: string, exitCode: 1 | 2 = 1): ErrorRow {
  return { status, title, help, exitCode };
}
