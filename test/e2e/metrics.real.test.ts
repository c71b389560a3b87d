// What Prometheus and Grafana are given: names and rules as promtool wants them, and nothing asked for that is not there.

import { readFile } from 'node:fs/promises';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { execFile } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { request } from 'undici';
import { stringify } from 'yaml';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pull, TestFleet, until } from '../support/fleet.ts';
import { OriginServer } from '../support/origin-server.ts';
import { needs } from '../support/programs.ts';

const run = promisify(execFile);
const DEPLOY = fileURLToPath(new URL('../../deploy', import.meta.url));

/** With its standard input; what it says goes into the error. */
async function promtool(args: string[], input = ''): Promise<string> {
  const running = run('promtool', args);
  running.child.stdin!.end(input);
  const { stdout, stderr } = await running;
  return stdout + stderr;
}

needs('promtool')('metrics', () => {
  let dir: string;
  let origin: OriginServer;
  let fleet: TestFleet;
  const texts = { tracker: '', agent: '' };

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'flotilla-metrics-'));
    origin = await OriginServer.start();
    fleet = await TestFleet.start({ lab: origin.url });
    const image = origin.addImage('team/app', 'v1', [1024 * 1024]);
    const agent = await fleet.agent('a');
    await pull(agent, 'lab/team/app/manifests/v1');
    await pull(agent, `lab/team/app/blobs/${image.layers[0]!.digest}`);
    await pull(agent, 'lab/team/nothing/manifests/v1');
    const { view } = fleet.tracker;
    await until('the tracker has heard', () => view.hosts.sums.bytes.origin > 0);
    view.look(Date.now());
    const { admin } = agent.running.addresses;
    texts.agent = await (await request(`http://${admin.host}:${admin.port}/metrics`)).body.text();
    texts.tracker = await trackerMetrics();
  });

  afterAll(async () => {
    await fleet.stop();
    await origin.goAway();
    await rm(dir, { recursive: true });
  });

  async function trackerMetrics(): Promise<string> {
    const { get } = await import('node:https');
    const { text } = await import('node:stream/consumers');
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    get(`${fleet.tracker.url}/metrics`, { ca: fleet.tracker.caPem, agent: false }, (response) => resolve(text(response))).on('error', reject);
    return promise;
  }

  test.each(['tracker', 'agent'] as const)('of the %s have names, types and units as Prometheus has them', async (which) => {
    expect(texts[which]).toContain('flotilla_');
    // Those of the Node process are prom-client's.
    const own = texts[which]
      .split('\n')
      .filter((line) => /^(# (HELP|TYPE) )?flotilla_/.test(line) && !/nodejs_|process_/.test(line))
      .join('\n');
    await promtool(['check', 'metrics'], `${own}\n`);
  });

  test('no label names an image, a digest, a host or a zone', () => {
    const labels = new Set([...`${texts.tracker}\n${texts.agent}`.matchAll(/^flotilla_[a-z_]+\{([^}]*)\}/gm)].flatMap(([, inside]) => [...inside!.matchAll(/(\w+)="/g)].map(([, name]) => name!)));
    for (const name of ['digest', 'image', 'repository', 'host', 'peer_id', 'peer', 'zone', 'origin']) expect(labels).not.toContain(name);
    expect(texts.tracker).not.toContain('team/app');
  });

  test('alert rules are valid, and fire when they should and only then', async () => {
    expect(await promtool(['check', 'rules', join(DEPLOY, 'prometheus/alerts.yml')])).toContain('SUCCESS');
    expect(await promtool(['test', 'rules', join(DEPLOY, 'prometheus/alerts_test.yml')])).toContain('SUCCESS');
  });

  test('the Grafana dashboard asks in valid PromQL', async () => {
    const file = join(dir, 'rules.yml');
    const rules = (await expressionsOfDashboard()).map((expr, index) => ({ record: `x:${index}`, expr: expr.replaceAll('$__rate_interval', '1m').replaceAll('$__range', '1h') }));
    await writeFile(file, stringify({ groups: [{ name: 'grafana', rules }] }));
    expect(await promtool(['check', 'rules', file])).toContain(`SUCCESS: ${rules.length} rules found`);
  });

  test('dashboard and rules ask for metrics that exist', async () => {
    const known = new Set([...`${texts.tracker}\n${texts.agent}`.matchAll(/^# TYPE (\w+) (\w+)/gm)].flatMap(([, name, type]) => (type === 'histogram' ? [`${name}_bucket`, `${name}_count`, `${name}_sum`] : [name!])));
    const rules = await readFile(join(DEPLOY, 'prometheus/alerts.yml'), 'utf8');
    const asked = [...(await expressionsOfDashboard()), ...[...rules.matchAll(/expr: (.+)/g)].map(([, expr]) => expr!)];
    expect(asked.length).toBeGreaterThan(30);
    for (const expr of asked) for (const [name] of expr.matchAll(/flotilla_\w+/g)) expect(known, expr).toContain(name);
  });
});

async function expressionsOfDashboard(): Promise<string[]> {
  const { panels } = JSON.parse(await readFile(join(DEPLOY, 'grafana/flotilla.json'), 'utf8')) as { panels: { targets?: { expr: string }[] }[] };
  return panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
}
