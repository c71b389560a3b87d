// How many chunks of one blob a host asks for at a time, of all its peers together. Pure.
//
// In a crowd on slow links there is little to choose from: what has just left the origin. Where every host asks each peer for some of it, each
// peer sends to all of them at once, every chunk takes as long as all of those together, and requests and news wait behind them for as long.
// So a host asks for few at a time; for more where it has more to choose from than others (it is behind, or came late), and for what comes in
// in AHEAD_S besides, so that on fast links, near or far, nothing waits for this. Why these figures: docs/decisions/0022.

/** About as many transfers at each end of a link as keep all links busy. */
const FEW = 8;
/** Of the chunks that could be asked for, one in so many. */
const CHOICE = 4;
const AHEAD_S = 0.4;

/**
 * @param known chunks that are wanted and held by some peer, asked for or not
 * @param chunksPerS that peers send this host now
 */
export function askedAtOnce(known: number, chunksPerS: number): number {
  return Math.ceil(Math.max(FEW + AHEAD_S * chunksPerS, known / CHOICE));
}
