import { expect, it } from 'vitest';
import { drawCurves } from './curves.js';

it('a picture is the same whenever it is drawn, and its clip path is no other picture’s', () => {
  const draw = (low: number) =>
    drawCurves(
      [
        {
          name: 'a',
          points: [
            { x: 1, y: 2 },
            { x: 2, y: 5 },
          ],
        },
      ],
      { xLabel: 'x', yLabel: 'y', yDomain: [low, 4] },
    );
  const [first, other] = [draw(1), draw(2)];
  const idIn = (svg: string) => /<clipPath id="([^"]+)"/.exec(svg)![1]!;
  expect(draw(1)).toBe(first);
  expect(idIn(other)).not.toBe(idIn(first));
  expect(first).toContain(`clip-path="url(#${idIn(first)})"`);
});
