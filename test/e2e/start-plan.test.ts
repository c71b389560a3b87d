// What `npm start` runs: the ports and flags that the documents name.

import { describe, expect, it } from 'vitest';
import { mirrorDropIn, parseOptions, planFleet, UsageError, welcomeText } from '../../scripts/start-plan.mjs';

function optionsOf(...argv: string[]): Exclude<ReturnType<typeof parseOptions>, 'help'> {
  const options = parseOptions(argv);
  if (options === 'help') throw new Error('no help was asked for');
  return options;
}

describe('npm start', () => {
  it('runs a tracker and one agent on the documented ports', () => {
    const { tracker, agents } = planFleet(optionsOf());
    expect(tracker.args.join(' ')).toBe('packages/tracker/src/main.ts --listen 127.0.0.1:5052 --data .flotilla/tracker');
    expect(agents.map((agent) => agent.args.join(' '))).toEqual([
      'packages/agent/src/main.ts agent --name agent-1 --data .flotilla/agent-1 --listen 127.0.0.1:5050 --p2p-listen 127.0.0.1:5051 ' +
        '--admin-listen 127.0.0.1:5053 --tracker https://127.0.0.1:5052 --join-token-file .flotilla/tracker/join-token',
    ]);
  });

  it('adds 100(k-1) to each port of agent k', () => {
    const { agents } = planFleet(optionsOf('--agents', '3'));
    expect(agents.map((agent) => agent.listeners.map((listener) => listener.port))).toEqual([
      [5050, 5051, 5053],
      [5150, 5151, 5153],
      [5250, 5251, 5253],
    ]);
    const ports = agents.flatMap((agent) => agent.listeners.map((listener) => listener.port));
    expect(new Set(ports).size).toBe(ports.length);
  });

  it('hands origins to every agent', () => {
    const { agents } = planFleet(optionsOf('--agents', '2', '--origin', 'a=http://127.0.0.1:1', '--origin', 'b=https://b', '--default-origin', 'a'));
    for (const agent of agents) expect(agent.args.slice(-6)).toEqual(['--origin', 'a=http://127.0.0.1:1', '--origin', 'b=https://b', '--default-origin', 'a']);
  });

  it.each([
    [['--agents', '0'], '--agents takes a whole number from 1 to 50, not "0"'],
    [['--agents', 'two'], '--agents takes'],
    [['--origin', 'http://127.0.0.1:5000'], '--origin takes NAME=URL'],
    [['--origin', 'lab=127.0.0.1:5000'], '--origin takes NAME=URL'],
    [['--base-port', '65533'], '--base-port takes'],
    [['--agnets', '2'], '--agnets'],
  ])('refuses %j', (argv, message) => {
    expect(() => parseOptions(argv)).toThrow(UsageError);
    expect(() => parseOptions(argv)).toThrow(message);
  });

  it('prints a pull line for the image it is given, and a mirror for a name that clients look up', () => {
    const options = optionsOf('--origin', 'lab=http://127.0.0.1:5000');
    const text = welcomeText(options, planFleet(options), 'lab/team/app:1', 'http://127.0.0.1:5052/#code=a');
    expect(text).toContain('\n  http://127.0.0.1:5052/#code=a\n');
    expect(text).toContain('podman pull --tls-verify=false 127.0.0.1:5050/lab/team/app:1\n');
    // "lab" has no dot: podman would take lab/team/app for a short name.
    expect(text).toContain('prefix = "docker.io"');
    expect(mirrorDropIn('quay.io', '127.0.0.1:5050')).toContain('location = "127.0.0.1:5050/quay.io"');
  });
});
