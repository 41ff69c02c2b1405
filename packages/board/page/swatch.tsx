import type { Shown } from './shown.js';

/** A piece of the run's line, as the charts draw it. */
export function Swatch({ run }: { run: Pick<Shown, 'colour' | 'dash'> }) {
  return (
    <svg class="swatch" viewBox="0 0 24 8" aria-hidden="true">
      <line x1="0" x2="24" y1="4" y2="4" stroke={run.colour} stroke-width="3" stroke-dasharray={run.dash.join(' ')} />
    </svg>
  );
}
