// From what happened in a simulated run to its figures, by the lab's names and meanings.

import { chunkSize } from '@flotilla/shared/chunk-map';
import { transferS } from '../lab/bound.ts';
import { median, MIB } from '../lab/quantities.ts';
import type { FigureValues } from '../lab/report.ts';
import type { Plan } from '../lab/scenarios.ts';
import type { SimOutcome } from './rollout.ts';

export interface SimFigures extends FigureValues {
  readonly seed: number;
  readonly lastOverBound: number;
  readonly copies: number;
  readonly failures: number;
  /** What the exchanges of all hosts counted, and hedges. */
  readonly swarmEvents: SimOutcome['counts'];
  readonly banned: readonly string[];
}

export function figuresOf(plan: Plan, seed: number, { endS, origin, counts, banned, sentOnceS }: SimOutcome): SimFigures {
  const imageBytes = plan.layerBytes.reduce((sum, bytes) => sum + bytes, 0);
  const killed = new Set(plan.kills.map(({ what }) => what));
  const ended = (hosts: readonly number[]): number[] => hosts.map((host) => endS[host]).filter((at) => at !== undefined);
  const judged = ended(plan.judged);
  const others = ended(plan.hostsBps.map((_, host) => host).filter((host) => !plan.judged.includes(host)));
  const failures = endS.filter((at, host) => at === undefined && !killed.has(host)).length;
  const lastS = judged.length === plan.judged.length ? Math.max(...judged) : Number.NaN;
  const delivered = ended(plan.hostsBps.map((_, host) => host)).length * imageBytes;
  return {
    seed,
    boundS: plan.boundS,
    lastS,
    medianS: median(judged),
    firstS: Math.min(...judged),
    lastOverBound: lastS / plan.boundS,
    lastOverMedian: lastS / median(judged),
    othersLastS: others.length === 0 ? undefined : Math.max(...others),
    copies: origin.bytes / imageBytes,
    originRequests: origin.requests,
    originBlobReadsPerMiB: origin.requests / (imageBytes / MIB),
    originSentOnceS: sentOnceS,
    originSentOnceBoundS: transferS(imageBytes, plan.originBps),
    duplicateShare: (counts.duplicate_bytes ?? 0) / delivered,
    forgedShare: plan.liars.length === 0 ? undefined : ((counts.forged_chunks ?? 0) * Math.max(...plan.layerBytes.map(chunkSize))) / delivered,
    failures,
    swarmEvents: counts,
    banned,
  };
}
