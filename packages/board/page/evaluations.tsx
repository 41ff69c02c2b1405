/** Scores of the runs' checkpoints: the newest of each as a table, and by step where there are several. */
import type { Evaluation, MetricsTable } from '../src/run_data.js';
import { Chart } from './chart.js';
import { formatNumber } from './look.js';
import type { Change, Settings } from './settings.js';
import type { Shown } from './shown.js';
import { Swatch } from './swatch.js';

interface Props {
  shown: readonly Shown[];
  settings: Settings;
  change: Change;
  isDark: boolean;
}

interface Point {
  step: number | undefined;
  value: number;
  standardError: number | undefined;
}

export function Evaluations({ shown, settings, change, isDark }: Props) {
  const byRun = shown.map((run) => pointsOf(run.details?.evaluations ?? [], run.metrics?.tables.evaluation));
  const scores = [...new Set(byRun.flatMap((points) => [...points.keys()]))];
  if (scores.length === 0) {
    return (
      <p>
        These runs have no evaluations. <code>evaluation: {'{ tasks: arc_easy, everySteps: 1000 }'}</code> in its file
        lets a run score tasks as it trains, and <code>sb-eval … --output RUN/evaluation.json</code> puts one there.
      </p>
    );
  }
  const curves = scores.flatMap((score) => {
    const lines = shown.flatMap(({ short: name, colour, dash }, i) => {
      const points = (byRun[i]!.get(score) ?? []).filter(({ step }) => step !== undefined);
      if (points.length < 2) return [];
      return [
        { name, colour, dash, line: { x: points.map(({ step }) => step!), y: points.map(({ value }) => value) } },
      ];
    });
    return lines.length > 0 ? [{ score, lines }] : [];
  });
  return (
    <>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">score</th>
              {shown.map((run) => (
                <th scope="col" key={run.name}>
                  <Swatch run={run} /> {run.short}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {scores.map((score) => (
              <tr key={score}>
                <th scope="row">{score}</th>
                {byRun.map((points, i) => (
                  <td key={shown[i]!.name}>{tellPoint(points.get(score)?.at(-1))}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <div class="charts">
        {curves.map(({ score, lines }) => (
          <Chart
            key={score}
            title={score}
            lines={lines}
            settings={{ ...settings, x: 'step', smoothing: 0, zoom: undefined }}
            format={formatNumber}
            fromZero={false}
            isDark={isDark}
            onZoom={() => change({})}
          />
        ))}
      </div>
    </>
  );
}

function tellPoint(point: Point | undefined) {
  if (!point) return '–';
  const { value, standardError, step } = point;
  return (
    <>
      {formatNumber(value)}
      {standardError !== undefined && ` ± ${formatNumber(standardError)}`}
      {step !== undefined && <small> at step {step}</small>}
    </>
  );
}

/** By score, in the order of steps: those of files, of which at one step the later counts, and those of the run itself. */
function pointsOf(evaluations: readonly Evaluation[], own: MetricsTable | undefined): Map<string, Point[]> {
  const found = new Map<string, Map<number | undefined, Point>>();
  const add = (name: string, point: Point) => {
    const points = found.get(name) ?? new Map<number | undefined, Point>();
    points.set(point.step, point);
    found.set(name, points);
  };
  for (const { step, scores } of evaluations) {
    for (const { task, metric, value, standardError } of scores) {
      add(`${task}, ${metric}`, { step, value, standardError });
    }
  }
  for (const [name, values] of Object.entries(own?.values ?? {})) {
    for (const [i, value] of values.entries()) {
      if (value !== null) add(name, { step: own!.step[i], value, standardError: undefined });
    }
  }
  const byStep = (a: Point, b: Point) => (a.step ?? 0) - (b.step ?? 0);
  return new Map([...found].map(([name, points]) => [name, [...points.values()].sort(byStep)]));
}
