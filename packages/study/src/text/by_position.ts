/** The loss by position in the longest windows, as reports of studies on text show it. */
import type { Curve, ReportBlock } from '@stickbreaking/eval';
import { nearLowest } from './close_up.js';
import type { TextEvaluation } from './evaluate.js';
import { spreadOf } from './spread.js';

/** A model with its results by seed. */
interface Line {
  name: string;
  results: readonly Pick<TextEvaluation, 'byPosition' | 'lengths'>[];
}

/** Positions before this one are of few tokens and hardly any context: they would stretch the picture. */
const FIRST_SHOWN = 16;

/** @param mark where in the picture a dotted line stands, such as at the training length */
export function positionBlocks(lines: readonly Line[], mark?: { x: number; label: string }): ReportBlock[] {
  const curves: Curve[] = lines.map(({ name, results }) => ({ name, points: spreadOf(results.map(shownPoints)) }));
  if (curves.every(({ points }) => points.length === 0)) return [];
  const windows = new Set(lines.flatMap(({ results }) => results.map(({ lengths }) => lengths.at(-1)!.length)));
  return [
    { kind: 'heading', text: 'Loss by position' },
    {
      ...{ kind: 'curves', name: 'loss-by-position', xLabel: 'position in the window (tokens)', xLog2: true },
      ...{ yLabel: 'loss (nats per token)', curves, yDomain: nearLowest(curves), ...(mark && { mark }) },
      caption: `Windows of ${[...windows].join(' and ')} tokens: the mean loss of the tokens from each position up to the next.`,
    },
  ];
}

const shownPoints = ({ byPosition }: Pick<TextEvaluation, 'byPosition'>) =>
  byPosition.filter(({ begin }) => begin >= FIRST_SHOWN).map(({ begin, nll }) => ({ x: begin, y: nll }));
