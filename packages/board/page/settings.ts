/** What is shown, kept in the address, so that a link or a reload shows the same. */
import { useEffect, useState } from 'preact/hooks';

export const tabs = ['Curves', 'Configuration', 'Samples', 'Evaluations', 'Checkpoints', 'Attention'] as const;
export type Tab = (typeof tabs)[number];
export const axes = ['step', 'tokens', 'time'] as const;
export type Axis = (typeof axes)[number];

export interface Settings {
  tab: Tab;
  x: Axis;
  /** 0 to 0.99 */
  smoothing: number;
  logX: boolean;
  logY: boolean;
  /** Scales leave out the lowest and highest twentieth of the values. */
  cutOutliers: boolean;
  /** Shows the runs alone whose names hold it. */
  filter: string;
  /** Names; undefined as long as nobody has chosen. */
  selected: readonly string[] | undefined;
  /** The part of the x axis that is shown. */
  zoom: readonly [number, number] | undefined;
}

const initial: Settings = {
  ...{ tab: 'Curves', x: 'step', smoothing: 0, logX: false, logY: false, cutOutliers: false },
  ...{ filter: '', selected: undefined, zoom: undefined },
};

export function parseSettings(hash: string): Settings {
  const query = new URLSearchParams(hash.replace(/^#/, ''));
  const one = <T extends string>(name: string, of: readonly T[], otherwise: T): T =>
    of.find((value) => value.toLowerCase() === query.get(name)) ?? otherwise;
  const zoom = query.get('zoom')?.split(',').map(Number);
  const smoothing = Number(query.get('smoothing') ?? 0);
  return {
    tab: one('tab', tabs, initial.tab),
    x: one('x', axes, initial.x),
    smoothing: smoothing >= 0 && smoothing < 1 ? smoothing : 0,
    logX: query.has('logx'),
    logY: query.has('logy'),
    cutOutliers: query.has('cut'),
    filter: query.get('filter') ?? '',
    selected: query.has('runs') ? query.getAll('runs').filter((name) => name !== '') : undefined,
    zoom: zoom?.length === 2 && zoom.every(Number.isFinite) && zoom[0]! < zoom[1]! ? [zoom[0]!, zoom[1]!] : undefined,
  };
}

export function formatSettings(settings: Settings): string {
  const query = new URLSearchParams();
  if (settings.tab !== initial.tab) query.set('tab', settings.tab.toLowerCase());
  if (settings.x !== initial.x) query.set('x', settings.x);
  if (settings.smoothing > 0) query.set('smoothing', String(settings.smoothing));
  for (const [name, on] of [
    ['logx', settings.logX],
    ['logy', settings.logY],
    ['cut', settings.cutOutliers],
  ] as const) {
    if (on) query.set(name, '1');
  }
  if (settings.filter !== '') query.set('filter', settings.filter);
  const { selected, zoom } = settings;
  for (const name of selected?.length === 0 ? [''] : (selected ?? [])) query.append('runs', name);
  if (zoom) query.set('zoom', zoom.map((value) => Number(value.toPrecision(8))).join(','));
  return query.toString();
}

export type Change = (change: Partial<Settings>) => void;

export function useSettings(): [Settings, Change] {
  const [settings, set] = useState(() => parseSettings(location.hash));
  useEffect(() => {
    const read = () => set(parseSettings(location.hash));
    window.addEventListener('hashchange', read);
    return () => window.removeEventListener('hashchange', read);
  }, []);
  const change: Change = (some) =>
    set((before) => {
      const after = { ...before, ...some };
      const text = formatSettings(after);
      history.replaceState(null, '', text === '' ? location.href.replace(/#.*/, '') : `#${text}`);
      return after;
    });
  return [settings, change];
}
