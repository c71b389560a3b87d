// Small line icons, 16 by 16, in the colour of the text around them. They repeat what a word beside them says, so they are hidden from readers.

import type { JSX } from 'preact';

const PATHS = {
  ok: 'M8 1.75a6.25 6.25 0 1 0 0 12.5 6.25 6.25 0 0 0 0-12.5ZM5.25 8.25l2 2 3.750-4.250',
  notice: 'M8 1.75a6.25 6.25 0 1 0 0 12.5 6.25 6.25 0 0 0 0-12.5ZM8 7.500v3.500M8 5v.1',
  warning: 'M8 2 14.500 13.500h-13L8 2ZM8 6.500v3.500M8 11.750v.1',
  bad: 'M5.400 1.750h5.200l3.650 3.650v5.200l-3.650 3.650H5.400L1.750 10.600V5.400L5.400 1.750ZM5.900 5.900l4.200 4.200M10.100 5.900l-4.200 4.200',
  fleet: 'M2 5h12M2 11h12M4 2.500h8a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2H4a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2ZM4.500 8h.1M7 8h.1M9.500 8h.1',
  rollout: 'M2 12.500 6 8.500l2.500 2.500L14 4.500M10 4.500h4v4',
  image: 'M8 1.750 14 5v6l-6 3.250L2 11V5l6-3.250ZM2 5l6 3.250L14 5M8 8.250v6',
  host: 'M3 2.500h10v4.500H3zM3 9h10v4.500H3zM5.500 4.750h.1M5.500 11.250h.1',
  members: 'M6 7.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5ZM1.500 13.500c0-2.500 2-4 4.500-4s4.500 1.500 4.500 4M10.500 2.750a2.500 2.500 0 0 1 0 4.500M12 9.750c1.500.5 2.500 1.750 2.500 3.750',
  timeline: 'M2 8h2.500l2-5.500 3 11 2-5.500H14',
  brake: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2ZM5 8h6',
  pulls: 'M8 2v8.500M4.500 7.500 8 11l3.500-3.500M2.500 13.750h11',
  key: 'M10.500 2a3.500 3.500 0 1 0 0 7 3.500 3.500 0 0 0 0-7ZM8 8l-6 6M4 12l1.750 1.750',
  search: 'M7 2.250a4.750 4.750 0 1 0 0 9.500 4.750 4.750 0 0 0 0-9.500ZM10.500 10.500l3.500 3.500',
  down: 'M4 6l4 4 4-4',
  up: 'M4 10l4-4 4 4',
  pause: 'M5.500 3v10M10.500 3v10',
  play: 'M5 3l8 5-8 5V3Z',
  stop: 'M3.500 3.500h9v9h-9z',
  retry: 'M13.500 8a5.500 5.500 0 1 1-1.700-4M13.500 1.750V4.500h-2.750',
  plus: 'M8 3v10M3 8h10',
  waiting: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2ZM8 5v3.250l2 1.500',
  working: 'M8 2a6 6 0 1 0 6 6',
  none: 'M4 8h8',
  sun: 'M8 5.250a2.750 2.750 0 1 0 0 5.500 2.750 2.750 0 0 0 0-5.500ZM8 1.500v1M8 13.500v1M1.500 8h1M13.500 8h1M3.400 3.400l.7.7M11.900 11.900l.7.7M3.400 12.600l.7-.7M11.900 4.100l.7-.7',
  moon: 'M13.500 9.500A6 6 0 0 1 6.500 2.500a6 6 0 1 0 7 7Z',
  screen: 'M2 3h12v8H2zM6 13.500h4',
} as const;
export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16 }: { readonly name: IconName; readonly size?: number }): JSX.Element {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Mark({ size = 20 }: { readonly size?: number }): JSX.Element {
  return (
    <svg width={size} height={size} viewBox="0 0 24 24" fill="currentColor" aria-hidden="true">
      <path d="M11 2v11H4.500L11 2Zm2 3.500L18.500 13H13V5.500ZM3 15h18l-2.200 4.200A3.400 3.400 0 0 1 15.800 21H8.200a3.400 3.400 0 0 1-3-1.800L3 15Z" />
    </svg>
  );
}
