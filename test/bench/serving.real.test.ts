// The benchmark runs, and gives every figure. What the figures are is for `npm run bench` on a quiet machine.

import { expect, it } from 'vitest';
import { needs } from '../support/programs.ts';
import { benchServing } from './serving.ts';

needs('docker-registry', 'nginx', 'curl')('the serving benchmark', () => {
  it('has all figures, of both sides', async () => {
    const { throughput, firstByteMs, manifests } = await benchServing(() => undefined, { blobsMiB: [4, 1], pairs: 1, requestPairs: 1 });
    expect(throughput.map(({ blobMiB, clients }) => [blobMiB, clients])).toEqual([[4, 1], [4, 4], [1, 1], [1, 4]]);
    expect(firstByteMs.map(({ blobMiB }) => blobMiB)).toEqual([4, 1]);
    expect(manifests.map(({ what }) => what)).toEqual(['HEAD by tag', 'GET by tag', 'HEAD by digest', 'GET by digest']);
    const times = [...throughput.flatMap(({ agentMBps, nginxMBps, share }) => [agentMBps, nginxMBps, share]), ...firstByteMs.flatMap(({ agentMs, nginxMs }) => [agentMs, nginxMs]), ...manifests.flatMap(({ originMs, agentMs }) => [originMs, agentMs])];
    expect(times.filter((time) => !(time > 0))).toEqual([]);
  });
});
