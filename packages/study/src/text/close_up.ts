/** A picture of losses, and a second one near the lowest where some leave it far behind. */
import type { Curve, ReportBlock } from '@stickbreaking/eval';

type CurvesBlock = Extract<ReportBlock, { kind: 'curves' }>;

const lossesOf = (curves: readonly Curve[]) => curves.flatMap(({ points }) => points.map(({ y }) => y));

/** Half a nat from the lowest loss up, and a little below it. */
export function nearLowest(curves: readonly Curve[]): [number, number] {
  const best = Math.min(...lossesOf(curves));
  return [best - 0.05, best + 0.5];
}

export function withCloseUp(whole: CurvesBlock): CurvesBlock[] {
  const yDomain = nearLowest(whole.curves);
  if (!(Math.max(...lossesOf(whole.curves)) > yDomain[1])) return [whole];
  const caption = 'The same, near the lowest loss: what rises further leaves the picture.';
  return [whole, { ...whole, name: `${whole.name}-close`, yDomain, caption }];
}
