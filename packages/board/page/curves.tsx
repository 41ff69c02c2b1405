/** The curves of the runs that are shown, one chart a metric. */
import type { MetricsTable } from '../src/run_data.js';
import type { Line } from '../src/series.js';
import { Chart } from './chart.js';
import { Controls } from './controls.js';
import { formatBytes, formatNumber } from './look.js';
import type { Axis, Change, Settings } from './settings.js';
import type { Shown } from './shown.js';

interface Props {
  shown: readonly Shown[];
  settings: Settings;
  change: Change;
  isDark: boolean;
}

interface Metric {
  table: string;
  name: string;
  title: string;
  format?: (value: number) => string;
  /** It jumps from step to step, so that smoothing helps. */
  smoothed?: true;
  /** Its axis begins at zero: a small change of something large should look small. */
  fromZero?: true;
}

const metrics: readonly Metric[] = [
  { table: 'steps', name: 'loss', title: 'Training loss (nats per token)', smoothed: true },
  { table: 'validation', name: 'validationLoss', title: 'Validation loss (nats per token)' },
  { table: 'steps', name: 'learningRate', title: 'Learning rate' },
  { table: 'steps', name: 'gradientNorm', title: 'Gradient norm before clipping', smoothed: true },
  { table: 'steps', name: 'balanceLoss', title: 'Balance loss of the experts (1: even)', smoothed: true },
  { table: 'steps', name: 'zLoss', title: 'z loss of the routers', smoothed: true },
  { table: 'steps', name: 'busiest', title: 'Busiest expert (times its even share)', smoothed: true },
  { table: 'steps', name: 'idleExperts', title: 'Experts without a token' },
  { table: 'steps', name: 'tokensPerSecond', title: 'Tokens per second', smoothed: true, fromZero: true },
  { table: 'steps', name: 'flopsPerSecond', title: 'Model FLOP per second', smoothed: true, fromZero: true },
  { table: 'steps', name: 'memoryBytes', title: 'Memory', format: formatBytes, fromZero: true },
];

/** How far back a layer looks, as a run measures it at each validation. */
const reach = /^attention\.(distance|remainder|skipped)\.(\d+)$/;
const reachTitles: Record<string, string> = {
  distance: 'Mean distance of what is attended to (tokens)',
  remainder: 'What no token took of the attention',
  skipped: 'Share of the tiles that block skipping leaves out',
};

function titleOf(name: string): string {
  const [, what, layer] = reach.exec(name) ?? [];
  return what === undefined ? name : `${reachTitles[what]}, layer ${layer}`;
}

export function Curves({ shown, settings, change, isDark }: Props) {
  const drawn = [...metrics, ...otherMetrics(shown)].flatMap((metric) => {
    const lines = shown.flatMap((run) => {
      const line = lineOf(run.metrics?.tables[metric.table], metric.name, settings.x);
      return line ? [{ name: run.short, colour: run.colour, dash: run.dash, line }] : [];
    });
    return lines.length > 0 ? [{ metric, lines }] : [];
  });
  const chart = ({ metric, lines }: (typeof drawn)[number]) => (
    <Chart
      key={metric.table + metric.name}
      title={metric.title}
      lines={lines}
      settings={metric.smoothed ? settings : { ...settings, smoothing: 0 }}
      format={metric.format ?? formatNumber}
      fromZero={metric.fromZero ?? false}
      isDark={isDark}
      onZoom={(zoom) => change({ zoom })}
    />
  );
  const byLayer = drawn.filter(({ metric }) => reach.test(metric.name));
  return (
    <>
      <Controls settings={settings} change={change} />
      {drawn.length === 0 && <p>The runs that are shown have no metrics yet.</p>}
      <div class="charts">{drawn.filter((one) => !byLayer.includes(one)).map(chart)}</div>
      {byLayer.length > 0 && (
        <details class="layers">
          <summary>How far each layer looks</summary>
          <div class="charts">{byLayer.map(chart)}</div>
        </details>
      )}
    </>
  );
}

/** What else a run writes into its metrics, under its own name. */
function otherMetrics(shown: readonly Shown[]): Metric[] {
  const found = new Map<string, Metric>();
  for (const { metrics: fetched } of shown) {
    for (const [table, { values }] of Object.entries(fetched?.tables ?? {})) {
      if (table === 'evaluation') continue; // it has a page of its own
      for (const name of Object.keys(values)) {
        if (metrics.some((known) => known.table === table && known.name === name)) continue;
        found.set(`${table} ${name}`, { table, name, title: titleOf(name) });
      }
    }
  }
  return [...found.values()];
}

export const columnOf = (table: MetricsTable, x: Axis) =>
  x === 'step' ? table.step : x === 'tokens' ? table.tokens : table.seconds;

function lineOf(table: MetricsTable | undefined, name: string, x: Axis): Line | undefined {
  const values = table?.values[name];
  return values && { x: columnOf(table!, x), y: values };
}
