// Where a host stands. Two hosts stand apart where both say where they stand, and it is not the same zone; who says nothing is near to everybody.

export interface Place {
  readonly selfId: string;
  readonly zone: string;
}

export function apart(own: string | undefined, theirs: string | undefined): boolean {
  return own !== undefined && theirs !== undefined && own !== theirs;
}
