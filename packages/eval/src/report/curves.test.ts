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

it('the word beside a rule stands on the side where it ends before the axis does', () => {
  const points = [512, 16384].map((x) => ({ x, y: 1 }));
  const anchorAt = (x: number) => {
    const options = { xLabel: 'x', yLabel: 'y', xLog2: true, mark: { x, label: 'training length' } };
    const svg = drawCurves([{ name: 'a', points }], options);
    return /text-anchor="(\w+)"[^>]*>\s*<text[^>]*>training length/.exec(svg)?.[1];
  };
  expect(anchorAt(512)).toBe('start');
  expect(anchorAt(16384)).toBe('end');
});
