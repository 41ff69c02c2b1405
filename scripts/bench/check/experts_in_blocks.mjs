import * as tf from '@tensorflow/tfjs-core';

/**
 * A mixture whose grouped matmuls have several tiles for each block, forward and backward: by lasting blocks and, as often as it takes
 * for two blocks of a cluster to leave at every distance from each other, by blocks of few tiles, as several GPUs have them. Returns
 * how many results differ in a bit, of each number of tiles.
 */
export function expertsInBlocks(backend) {
  const [tokens, width, units, experts, active] = [6001, 520, 264, 40, 4];
  // Few numbers, again and again: to draw all of them would take longer than the rest.
  const noise = tf.randomNormal([2 ** 16 + 7]).dataSync();
  const normal = (scale, ...shape) =>
    tf.tensor(
      Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => scale * noise[i % noise.length]),
      shape,
    );
  const weights = {
    x: normal(1, tokens, width),
    router: normal(width ** -0.5, experts, width),
    input: normal(width ** -0.5, experts, 2 * units, width),
    output: normal(units ** -0.5, experts, width, units),
  };
  const dy = normal(0.5, tokens, width);
  const attrs = { active, balanceWeight: 0.01, zWeight: 0.001 };
  const run = (name, inputs) => tf.engine().runKernel(name, inputs, attrs);
  const layer = () => {
    const [y, routing, choices, logits, saved] = run('MixtureOfExperts', weights);
    const gradients = run('MixtureOfExpertsGrad', { ...weights, choices, logits, saved, dy });
    const [, ...sums] = gradients;
    const added = { sumRouter: sums[0], sumInput: sums[1], sumOutput: sums[2] };
    const twice = run('MixtureOfExpertsGrad', { ...weights, choices, logits, saved, dy, ...added });
    tf.dispose([routing, logits, saved, choices, gradients]);
    return [y, ...twice];
  };
  const bits = () => {
    const made = layer();
    const read = made.map((one) => Buffer.from(one.dataSync().slice().buffer));
    tf.dispose(made);
    return read;
  };
  const lasting = bits();
  const found = [1, 2, 3].map((tiles) => {
    backend.groupedTiles = tiles;
    for (let i = 0; i < 300; i++) tf.dispose(layer());
    const different = bits().filter((one, i) => !one.equals(lasting[i])).length;
    return { tiles, different, of: lasting.length };
  });
  backend.groupedTiles = undefined;
  tf.dispose([weights, dy]);
  return found;
}
