/** One chart: uPlot draws the lines; below are the values at the cursor, or the last ones. */
import { useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import type uPlot from 'uplot';
import { type Line, rangeWithoutOutliers, sampleOf, smooth, thinOut, valueAt, within } from '../src/series.js';
import { formatCount, formatSeconds } from './look.js';
import { joinLines, makePlot } from './plot.js';
import type { PlotLine } from './plot_line.js';
import type { Settings } from './settings.js';
import { Swatch } from './swatch.js';

export interface ChartLine {
  name: string;
  colour: string;
  dash: number[];
  line: Line;
}

interface Props {
  title: string;
  lines: readonly ChartLine[];
  settings: Settings;
  format: (value: number) => string;
  fromZero: boolean;
  isDark: boolean;
  onZoom: (zoom: readonly [number, number] | undefined) => void;
}

/** More points than a chart has pixels look no different. */
const MOST_POINTS = 2000;

export function Chart({ title, lines, settings, format, fromZero, isDark, onZoom }: Props) {
  const { x, smoothing, logX, logY, cutOutliers, zoom } = settings;
  const formatX = x === 'time' ? formatSeconds : formatCount;
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const [at, setAt] = useState<number | undefined>(undefined);
  const drawn = useMemo(
    () => lines.map(({ line, ...look }) => ({ ...look, ...prepared(line, settings) })),
    [lines.map(({ line, colour }) => [line.y, colour]), smoothing, logX, logY, zoom, x].flat(2),
  );
  const range = cutOutliers ? rangeWithoutOutliers(drawn.flatMap(({ smoothed }) => smoothed.y)) : undefined;
  const view = useRef({ zoom, range, onZoom, setAt });
  view.current = { zoom, range, onZoom, setAt };
  const shape = JSON.stringify([
    lines.map(({ name, colour, dash }) => [name, colour, dash]),
    logX,
    logY,
    x,
    isDark,
    fromZero,
    smoothing > 0,
  ]);
  // At once, as paper does not wait.
  useLayoutEffect(() => {
    const made = makePlot(place.current!, drawn, { logX, logY, fromZero, isDark, format, formatX, view });
    plot.current = made;
    const observer = new ResizeObserver(([entry]) =>
      made.setSize({ width: entry!.contentRect.width, height: made.height }),
    );
    observer.observe(place.current!);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [shape]);
  useLayoutEffect(() => plot.current && setData(plot.current, drawn), [drawn, shape, range?.join()]);
  const xLabel = x === 'time' ? 'time worked' : x;
  const scaleWords = [logY && 'logarithmic', logX && `by the logarithm of ${xLabel}`, !logX && `by ${xLabel}`].filter(
    Boolean,
  );
  const values = drawn.map((line) => ({
    ...line,
    value: at === undefined ? last(line.smoothed) : valueAt(line.smoothed, at),
  }));
  const told = values.map(({ name, value }) => `${name} ${value === undefined ? 'none' : format(value)}`).join(', ');
  const where = at === undefined ? 'last values' : `at ${formatX(at)}`;
  const [first, end] = extent(drawn.map(({ smoothed }) => smoothed));
  const whole = extent(lines.map(({ line }) => line));
  return (
    <figure class="chart">
      <figcaption>
        {title} <small>{scaleWords.join(', ')}</small>
      </figcaption>
      {/* A slider for the keyboard and screen readers: its value is where the cursor stands. */}
      <div
        ref={place}
        class="plot"
        role="slider"
        tabIndex={0}
        aria-label={`${title} by ${xLabel}`}
        aria-valuemin={first}
        aria-valuemax={end}
        aria-valuenow={at ?? end}
        aria-valuetext={`${where}: ${told}`}
        onKeyDown={(event) => plot.current && onKey(event, plot.current, whole, onZoom)}
        onBlur={() => plot.current?.setCursor({ left: -10, top: -10 })}
      />
      <details class="values" open={lines.length <= 8}>
        <summary>{where}</summary>
        <ul>
          {values.map((line) => (
            <li key={line.name}>
              <Swatch run={line} /> <span class="name">{line.name}</span>{' '}
              <b>{line.value === undefined ? '–' : format(line.value)}</b>
            </li>
          ))}
        </ul>
      </details>
    </figure>
  );
}

/** The line as it is drawn, and the one that was smoothed away, faintly behind it. */
function prepared(
  { x, y }: Line,
  { smoothing, logX, logY, zoom }: Settings,
): { smoothed: Line; raw: Line | undefined } {
  const kept = logX ? x.map((_, i) => i).filter((i) => x[i]! > 0) : undefined;
  const own = kept ? { x: kept.map((i) => x[i]!), y: kept.map((i) => y[i]!) } : { x, y };
  const positive = (values: (number | null)[]) =>
    logY ? values.map((value) => (value !== null && value > 0 ? value : null)) : values;
  const cut = (values: (number | null)[]) => {
    const line = { x: own.x, y: positive(values) };
    return zoom ? within(line, ...zoom) : line;
  };
  const raw = thinOut(cut(own.y), MOST_POINTS);
  return smoothing > 0
    ? { smoothed: sampleOf(cut(smooth(own.y, smoothing)), MOST_POINTS / 4), raw }
    : { smoothed: raw, raw: undefined };
}

const last = ({ x, y }: Line) => (x.length === 0 ? undefined : valueAt({ x, y }, x.at(-1)!));

function extent(lines: readonly Line[]): [number, number] {
  const firsts = lines.flatMap(({ x }) => x.slice(0, 1));
  const ends = lines.flatMap(({ x }) => x.slice(-1));
  return firsts.length === 0 ? [0, 0] : [Math.min(...firsts), Math.max(...ends)];
}

function setData(plot: uPlot, lines: readonly PlotLine[]): void {
  plot.setData(joinLines(lines));
}

/**
 * Arrow keys move the cursor, + and - zoom, Escape takes both back.
 *
 * @param first the least x there is
 * @param end the greatest
 */
function onKey(event: KeyboardEvent, plot: uPlot, [first, end]: [number, number], onZoom: Props['onZoom']): void {
  const width = plot.over.clientWidth;
  const { left = -10 } = plot.cursor;
  const from = left < 0 ? width : left;
  const by = event.shiftKey ? width / 10 : width / 100;
  const to: Record<string, number> = { ArrowLeft: from - by, ArrowRight: from + by, Home: 0, End: width };
  const target = to[event.key];
  if (target !== undefined) {
    plot.setCursor({ left: Math.min(width, Math.max(0, target)), top: plot.over.clientHeight / 2 });
  } else if (event.key === '+' || event.key === '-') {
    const reach = event.key === '+' ? width / 4 : width;
    const [low, high] = [from - reach, from + reach].map((at) => plot.posToVal(at, 'x')) as [number, number];
    onZoom(low <= first && high >= end ? undefined : [Math.max(first, low), Math.min(end, high)]);
  } else if (event.key === 'Escape') {
    plot.setCursor({ left: -10, top: -10 });
    onZoom(undefined);
  } else return;
  event.preventDefault();
}
