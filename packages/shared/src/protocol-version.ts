// Which releases work together: each with the one before it and the one after it.
//
// A side says the version of what it speaks when it introduces itself: an agent to the tracker (`protocol` of its session request), the
// tracker to an agent (`protocol` of its welcome), an agent to an agent (`version` of its hello). Who says nothing speaks UNTOLD_PROTOCOL. Within one
// version of one another, fields and kinds of messages that a side does not know are passed over, and fields that are missing have a default;
// beyond that a side refuses, and says which of the two has to be upgraded.
// Non-goal: what the versions differ in; what cannot be passed over gets another API prefix or protocol id instead.

/** What this release speaks between agent and tracker. Rises by one with each release that says something new. */
export const TRACKER_PROTOCOL = 2;
/** Releases that did not say it yet. */
export const UNTOLD_PROTOCOL = 1;

/** Whether two sides work together; else which of them is too old. */
export type VersionFit = 'fits' | 'they-are-old' | 'they-are-new';

export function versionFit(ours: number, theirs: number): VersionFit {
  if (theirs < ours - 1) return 'they-are-old';
  return theirs > ours + 1 ? 'they-are-new' : 'fits';
}
