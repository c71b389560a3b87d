// Which page is at which address. A page is a component that takes the `:names` of its pattern; the first pattern that fits counts.

import type { ComponentType } from 'preact';
import type { IconName } from '../components/icon.tsx';
import { BrakesPage } from './brakes.tsx';
import { FleetPage } from './fleet.tsx';
import { HostPage } from './host.tsx';
import { HostsPage } from './hosts.tsx';
import { ImagePage } from './image.tsx';
import { ImagesPage } from './images.tsx';
import { MembersPage } from './members.tsx';
import { PullPage } from './pull.tsx';
import { PullsPage } from './pulls.tsx';
import { ReceivedPage } from './received.tsx';
import { NewRolloutPage } from './rollout-new.tsx';
import { RolloutPage } from './rollout.tsx';
import { RolloutsPage } from './rollouts.tsx';
import { SearchPage } from './search.tsx';
import { SwarmPage } from './swarm.tsx';
import { TimelinePage } from './timeline.tsx';
import { TokensPage } from './tokens.tsx';

// Each takes only the names of its own pattern.
type AnyPage = ComponentType<Record<string, string>>;

export const ROUTES: readonly { readonly pattern: string; readonly page: AnyPage }[] = [
  { pattern: '/', page: FleetPage },
  { pattern: '/hosts', page: HostsPage },
  { pattern: '/hosts/:peerId', page: HostPage as AnyPage },
  { pattern: '/rollouts', page: RolloutsPage },
  { pattern: '/rollouts/new', page: NewRolloutPage },
  { pattern: '/rollouts/:id', page: RolloutPage as AnyPage },
  { pattern: '/images', page: ImagesPage },
  { pattern: '/images/:digest', page: ImagePage as AnyPage },
  { pattern: '/swarms/:digest', page: SwarmPage as AnyPage },
  { pattern: '/members', page: MembersPage },
  { pattern: '/members/:peerId/received', page: ReceivedPage as AnyPage },
  { pattern: '/timeline', page: TimelinePage },
  { pattern: '/brakes', page: BrakesPage },
  { pattern: '/pulls', page: PullsPage },
  { pattern: '/pulls/:id', page: PullPage as AnyPage },
  { pattern: '/search', page: SearchPage },
  { pattern: '/tokens', page: TokensPage },
];

/** The links at the side, in this order. */
export const NAVIGATION: readonly { readonly href: string; readonly text: string; readonly icon: IconName }[] = [
  { href: '/', text: 'Fleet', icon: 'fleet' },
  { href: '/rollouts', text: 'Rollouts', icon: 'rollout' },
  { href: '/images', text: 'Images', icon: 'image' },
  { href: '/hosts', text: 'Hosts', icon: 'host' },
  { href: '/members', text: 'Members', icon: 'members' },
  { href: '/pulls', text: 'Pulls', icon: 'pulls' },
  { href: '/timeline', text: 'Timeline', icon: 'timeline' },
  { href: '/brakes', text: 'Brakes', icon: 'brake' },
  { href: '/tokens', text: 'Tokens', icon: 'key' },
];
