// How often our verdict on answers of MATH is the harness's: node scripts/bench/tasks/math_pairs.mjs PAIRS…, of math_pairs.py.
import { readFileSync } from 'node:fs';
import { compareLatex, normaliseAnswer } from '@stickbreaking/eval';

const counts = { agree: 0, 'normal forms differ': 0 };
for (const file of process.argv.slice(2)) {
  for (const line of readFileSync(file, 'utf8').split('\n').filter(Boolean)) {
    const { a, b, normal, equal } = JSON.parse(line);
    const own = [a, b].map(normaliseAnswer);
    const found = compareLatex(...own);
    const alike = own.every((text, i) => text === normal[i]);
    const what = !alike
      ? 'normal forms differ'
      : (found === 'equal') === equal
        ? 'agree'
        : `sympy: ${equal ? 'equal' : 'not'}, ours: ${found}`;
    counts[what] = (counts[what] ?? 0) + 1;
    if (what !== 'agree') console.log(`${what}: ${own.join('   ')}`);
  }
}
const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
console.log(`${all} pairs, ${((100 * counts.agree) / all).toFixed(2)} % agree:`, counts);
