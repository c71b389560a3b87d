// What an operator may do. Each role may do what the one before it may.
//   read: look at everything   operate: rollouts, brakes, members   admin: tokens and the join token as well

import { ROLES, type Role } from '@flotilla/shared/operator-api';

/** Somebody who has proven who they are. */
export interface Operator {
  /** The name of the token, or the one given to `login`: what the audit log calls them. */
  readonly name: string;
  readonly role: Role;
}

/** Whether `role` may do what asks for `needed`. */
export function mayAct(role: Role, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}
