// The paths of `/api/v1` that operators use; what goes over them stands in operator-api.ts, rollout-api.ts and live-api.ts.
// Apart from the schemas, because pages need none.

/** Below API_PREFIX. The role is what a caller needs at least. */
export const OPERATOR_ROUTES = {
  /** POST SignInRequest -> Me, with the session's cookie. Anybody. */
  signIn: '/sign-in',
  /** POST -> 204. read */
  signOut: '/sign-out',
  /** GET -> Me. read */
  me: '/me',
  /** GET -> TokenInfo[]; POST CreateTokenRequest -> 201 CreatedToken. admin */
  tokens: '/tokens',
  /** DELETE -> 204. admin */
  token: (name: string): string => `/tokens/${encodeURIComponent(name)}`,
  /** GET -> AuditPage. read */
  auditLog: '/audit-log',
  /** GET, server-sent events (live-api.ts). read */
  live: '/live',
  /** GET -> FleetSnapshot; /hosts -> HostsSnapshot. Once, what the topics show. read */
  fleet: '/fleet',
  hosts: '/hosts',
  /** GET -> HostDetail. read */
  host: (peerId: string): string => `/hosts/${encodeURIComponent(peerId)}`,
  /** GET ImagesQuery -> ImagePage. read */
  images: '/images',
  /** GET -> ImageSnapshot. read */
  image: (digest: string): string => `/images/${encodeURIComponent(digest)}`,
  /** GET -> SwarmLive. read */
  swarm: (digest: string): string => `/swarms/${encodeURIComponent(digest)}`,
  /** GET -> MemberList. read */
  members: '/members',
  /** POST {reason} -> 204. operate */
  expel: (peerId: string): string => `/members/${encodeURIComponent(peerId)}/expel`,
  quarantine: (peerId: string): string => `/members/${encodeURIComponent(peerId)}/quarantine`,
  /** POST -> 204. operate */
  readmit: (peerId: string): string => `/members/${encodeURIComponent(peerId)}/readmit`,
  /** DELETE -> 204: a host that is gone for good; 409 while it is connected. operate */
  member: (peerId: string): string => `/members/${encodeURIComponent(peerId)}`,
  /** GET -> ReceivedFrom: who got bytes from it in the last 7 days. read */
  received: (peerId: string): string => `/members/${encodeURIComponent(peerId)}/received`,
  /** GET -> JoinTokenInfo; POST -> JoinTokenInfo: a new secret from now on. admin */
  joinToken: '/join-token',
  /** GET -> Brake[]; POST BrakeRequest -> 201 Brake. read, operate */
  brakes: '/brakes',
  /** DELETE -> 204: released before its time. operate */
  brake: (id: string): string => `/brakes/${encodeURIComponent(id)}`,
  /** GET TimelineQuery -> Timeline. read */
  timeline: '/timeline',
  /** GET PullsQuery -> PullPage. read */
  pulls: '/pulls',
  /** GET -> Pull. read */
  pull: (id: string): string => `/pulls/${encodeURIComponent(id)}`,
  /** GET ?q= -> SearchResult. read */
  search: '/search',
  /** GET -> the OpenAPI document of all this. Anybody. */
  openapi: '/openapi.json',
} as const;

/** Each may do what the one before it may. */
export const ROLES = ['read', 'operate', 'admin'] as const;

/** pause: nothing of it moves until resume. cancel: for good. retry: those that failed try again. */
export const ROLLOUT_COMMANDS = ['pause', 'resume', 'cancel', 'retry'] as const;
export type RolloutCommand = (typeof ROLLOUT_COMMANDS)[number];

/** Where the operator's requests go, below API_PREFIX. Reading asks for the role read, the rest for operate. */
export const ROLLOUT_ROUTES = {
  /** GET -> RolloutList, newest first. POST RolloutRequest -> 201 RolloutDetail */
  all: '/rollouts',
  /** GET -> RolloutDetail */
  one: (id: string): string => `/rollouts/${encodeURIComponent(id)}`,
  /** GET -> RolloutHosts; `?state=failed` leaves out the rest, `?outcome=true` those that have nothing to tell of their end */
  hosts: (id: string): string => `/rollouts/${encodeURIComponent(id)}/hosts`,
  /** POST -> RolloutDetail. 409 where the state does not allow it; asked again, it changes nothing. */
  command: (id: string, command: RolloutCommand): string => `/rollouts/${encodeURIComponent(id)}/${command}`,
} as const;
