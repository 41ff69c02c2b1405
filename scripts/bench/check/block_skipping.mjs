// The checks of block skipping where rows that look far are gathered, with settings so small that documents of a few hundred tokens have
// such rows: forward by levels (flash_levels.cuh), backward by groups (flash_far.cuh).
import { bfloat16Tolerances, runConformance } from '@stickbreaking/core/conformance';

/** Tiles that the first levels go over, and those of a part at least. */
const LEVELS = [
  [[1], 2],
  [[1, 2], 100],
  [[2, 1, 1], 3],
  [[1, 5, 4], 1],
];
/** Tiles of a block of neighbours. */
const NEAR = [1, 2, 3];

/**
 * The cases of stick-breaking that are `wanted`, with each of the settings; unless `once`, again, which must give the same bits.
 * Prints what is wrong.
 *
 * @returns how many failed, or differed the second time
 */
export async function checkBlockSkipping(backend, { wanted, once }) {
  const { blockSkipping, levels, farRows } = backend;
  const before = { blockSkipping, levels, farRows };
  const only = (one) => wanted(one) && one.name.startsWith('stick-breaking') && !one.name.includes('cached');
  const check = async (what, seed, notes = () => '') => {
    const run = () => runConformance('cuda', bfloat16Tolerances, { seed, bfloat16Inputs: true, only });
    const first = await run();
    const second = once ? first : await run();
    const wrong = first.filter(({ failures }) => failures.length > 0);
    const changed = first.filter((one, i) => JSON.stringify(one.errors) !== JSON.stringify(second[i].errors)).length;
    for (const { name, failures } of wrong) console.log(`FAIL ${what}: ${name}: ${failures.join('; ')}`);
    const again = once ? '' : `, ${changed} differ the second time`;
    console.log(`${first.length} cases with ${what}${notes()}: ${wrong.length} failed${again}`);
    return wrong.length + changed;
  };
  let failed = 0;
  try {
    backend.blockSkipping = true;
    for (const [walks, partTiles] of LEVELS) {
      backend.levels = { from: 1, walks, partTiles };
      failed += await check(`levels of ${walks} tiles and one, in parts of ${partTiles}`, 11);
    }
    backend.levels = levels;
    for (const near of NEAR) {
      // Also where it does not pay.
      backend.farRows = { from: 1, near, share: 2, cost: 0 };
      const calls = countGathered(backend);
      const notes = () => {
        const { gathered, all } = calls();
        return ` (in ${gathered} of ${all} calls)`;
      };
      failed += await check(`rows gathered beyond ${near} tiles`, 11 + near, notes);
    }
  } finally {
    Object.assign(backend, before);
  }
  return failed;
}

/** Counts calls of the backward in which rows look so far that they are gathered: flash_far.cuh, struct FarCounts. */
function countGathered(backend) {
  const { driver } = backend;
  const calls = { all: 0, gathered: 0 };
  driver.onLaunch = (name, run) => {
    run();
    if (name !== 'flash_far_sort') return;
    const apart = new Int32Array(1);
    driver.call('cuMemcpyDtoHAsync_v2', apart, backend.workspace(1) + 16, apart.byteLength, driver.stream);
    driver.synchronize();
    calls.all++;
    calls.gathered += apart[0];
  };
  return () => {
    driver.onLaunch = undefined;
    return calls;
  };
}
