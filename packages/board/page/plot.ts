/** uPlot as the charts use it. */
import { logTicks } from '@stickbreaking/base';
import uPlot from 'uplot';
import { drawNames, nameWidth } from './names.js';
import type { PlotLine } from './plot_line.js';

/** What may change without a new plot. */
interface View {
  zoom: readonly [number, number] | undefined;
  /** Of y, where outliers are left out. */
  range: readonly [number, number] | undefined;
  onZoom: (zoom: readonly [number, number] | undefined) => void;
  setAt: (x: number | undefined) => void;
}

export interface PlotOptions {
  logX: boolean;
  logY: boolean;
  fromZero: boolean;
  isDark: boolean;
  format: (value: number) => string;
  formatX: (value: number) => string;
  view: { current: View };
}

const HEIGHT = 260;
const inks = { light: { ink: '#1b1b1b', grid: '#00000018' }, dark: { ink: '#e8e8e8', grid: '#ffffff1c' } };

export function makePlot(place: HTMLElement, lines: readonly PlotLine[], options: PlotOptions): uPlot {
  const { ink, grid } = options.isDark ? inks.dark : inks.light;
  const font = '12px system-ui, sans-serif';
  const { format, formatX, view } = options;
  const isBytes = countsBytes(options);
  const axis = { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
  const tell = (with_: (value: number) => string) => (_: uPlot, splits: (number | null)[]) =>
    splits.map((value) => (value === null ? '' : with_(value)));
  return new uPlot(
    {
      width: Math.max(200, place.clientWidth),
      height: HEIGHT,
      legend: { show: false },
      cursor: {
        sync: { key: 'runs', scales: ['x', null] },
        drag: { setScale: false, x: true, y: false },
        bind: { dblclick: () => () => view.current.onZoom(undefined) as never },
      },
      padding: [null, nameWidth(lines, place.clientWidth, font), null, null],
      scales: scalesOf(options),
      axes: [
        { ...axis, ...(options.logX ? logAxis(80, false) : {}), values: tell(formatX), space: 60, size: 32 },
        {
          ...{ ...axis, ...(options.logY ? logAxis(28, isBytes) : {}), values: tell(format), size: 64 },
          ...(isBytes && !options.logY ? { incrs: powersOfTwo } : {}),
        },
      ],
      series: [{}, ...seriesOf(lines)],
      hooks: {
        draw: [(u) => drawNames(u, lines, font)],
        setCursor: [(u) => view.current.setAt(u.cursor.left! < 0 ? undefined : u.posToVal(u.cursor.left!, 'x'))],
        setSelect: [
          (u) => {
            if (u.select.width < 4) return;
            const [from, to] = [u.select.left, u.select.left + u.select.width].map((left) => u.posToVal(left, 'x'));
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            view.current.onZoom([from!, to!]);
          },
        ],
      },
    },
    joinLines(lines),
    place,
  );
}

/** The lines' points on one common x, as uPlot wants them: first those that are drawn faintly, and the others over them. */
export function joinLines(lines: readonly PlotLine[]): uPlot.AlignedData {
  const tables = [...lines.flatMap(({ raw }) => raw ?? []), ...lines.map(({ smoothed }) => smoothed)];
  return uPlot.join(tables.map(({ x, y }): uPlot.AlignedData => [x, y]));
}

function seriesOf(lines: readonly PlotLine[]): uPlot.Series[] {
  const faint = lines
    .filter(({ raw }) => raw)
    .map(({ colour }) => ({ stroke: `${colour}38`, width: 1, points: { show: false } }));
  return [...faint, ...lines.map(({ name: label, colour: stroke, dash }) => ({ label, stroke, width: 2, dash }))];
}

const countsBytes = ({ format }: PlotOptions) => format(2 ** 30) === '1 GiB';

function scalesOf(options: PlotOptions): uPlot.Scales {
  const { logX, logY, fromZero, view } = options;
  type Range = [number | null, number | null];
  const rangeX = (_: uPlot, min: number, max: number): Range => {
    if (view.current.zoom) return [...view.current.zoom];
    return min === max ? [min - (logX ? min / 2 : 1), max + 1] : [min, max]; // one point has no width
  };
  const rangeY = (_: uPlot, min: number, max: number): Range => {
    const [low, high] = view.current.range ?? [min, max];
    if (low === null || high === null) return [null, null];
    if (logY) {
      const ticks = ticksOf(low, high, 12, countsBytes(options));
      return [ticks[0]!, ticks.at(-1)!];
    }
    if (low === high && !fromZero) return [low - Math.abs(low) / 10, high + Math.abs(high) / 10];
    return uPlot.rangeNum(fromZero ? 0 : low, high, 0.1, true);
  };
  return {
    x: { time: false, distr: logX ? 3 : 1, range: rangeX },
    y: { distr: logY ? 3 : 1, range: rangeY },
  };
}

/** Bytes have round numbers of KiB, MiB or GiB. */
function ticksOf(low: number, high: number, most: number, isBytes: boolean): number[] {
  const unit = isBytes ? 1024 ** Math.floor(Math.log(low) / Math.log(1024)) : 1;
  return logTicks(low / unit, high / unit, most).map((tick) => tick * unit);
}

/** Ticks of a logarithmic axis: at both of its ends, and between them where there is room for `space` pixels each. */
function logAxis(space: number, isBytes: boolean): uPlot.Axis {
  return {
    splits: (u, axis, min, max) => {
      const length = (axis === 0 ? u.over.clientWidth : u.over.clientHeight) || 300;
      const most = Math.max(4, Math.floor(length / space));
      const apart = (max / min) ** (1 / most / 1.5); // of labels at the ends
      const between = ticksOf(min, max, most, isBytes).filter((tick) => tick / min >= apart && max / tick >= apart);
      return [min, ...between, max];
    },
    filter: (_, splits) => splits,
  };
}

/** Bytes are counted by them. */
const powersOfTwo = Array.from({ length: 50 }, (_, i) => 2 ** i);
