/** Scores of the runs' checkpoints: the newest of each as a table, and by step where there are several. */
import type { Evaluation } from '../src/run_data.js';
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
  const byRun = shown.map((run) => pointsOf(run.details?.evaluations ?? []));
  const scores = [...new Set(byRun.flatMap((points) => [...points.keys()]))];
  if (scores.length === 0) {
    return (
      <p>
        There are no evaluations in these runs’ directories. <code>sb-eval … --output RUN/evaluation.json</code> puts
        one there.
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

/** By score, in the order of steps; of two at one step the later file counts. */
function pointsOf(evaluations: readonly Evaluation[]): Map<string, Point[]> {
  const found = new Map<string, Map<number | undefined, Point>>();
  for (const { step, scores } of evaluations) {
    for (const { task, metric, value, standardError } of scores) {
      const name = `${task}, ${metric}`;
      const points = found.get(name) ?? new Map<number | undefined, Point>();
      points.set(step, { step, value, standardError });
      found.set(name, points);
    }
  }
  return new Map([...found].map(([name, points]) => [name, [...points.values()]]));
}
