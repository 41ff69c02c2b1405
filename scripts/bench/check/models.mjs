// Small models whose heads or FIRE networks the fused kernels are not made for, on a GPU beside tfjs's CPU backend: the text that
// each goes on with, the logits of every step, the gradients of a training step, and that no op ran on the CPU meanwhile.
import { seededRandom } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { roundToBfloat16 } from '@stickbreaking/core/conformance';
import { LlamaModel, parseConfig } from '@stickbreaking/model';
import * as tf from '@tensorflow/tfjs-core';

const fire = (width) => ({ kind: 'softmax', position: { kind: 'fire', width } });
export const models = [
  { name: 'heads of 80, stick-breaking', headDim: 80, attention: 'stick-breaking' },
  { name: 'heads of 80, RoPE', headDim: 80, attention: 'softmax+rope' },
  { name: 'heads of 96, stick-breaking', headDim: 96, attention: 'stick-breaking' },
  { name: 'heads of 96, RoPE', headDim: 96, attention: 'softmax+rope' },
  { name: 'heads of 160, stick-breaking', headDim: 160, attention: 'stick-breaking' },
  { name: 'heads of 160, a forget gate', headDim: 160, attention: 'softmax+forget' },
  { name: 'heads of 64, FIRE of 192 units', headDim: 64, attention: fire(192) },
  { name: 'heads of 160, FIRE of 192 units', headDim: 160, attention: fire(192) },
];

const [PROMPT, NEW] = [41, 8];
/**
 * Room for bfloat16, relative in norm: of the logits of all steps, of how much less likely another token is, of all gradients, and of
 * each parameter's, or of a hundredth of all where its own is smaller.
 */
const LIMITS = { logits: 0.03, gap: 0.06, all: 0.05, each: 0.2 };

/**
 * @param fast the backend to check
 * @param onCpu how many ops of its have run on the CPU so far
 * @returns a line about the model, and whether all is well
 */
export async function checkModel({ name, headDim, attention }, fast, onCpu) {
  const config = parseConfig({
    ...{ vocabSize: 97, hiddenSize: 2 * headDim, intermediateSize: 96, numLayers: 2, numHeads: 2, numKvHeads: 1 },
    ...{ contextLength: 128, attention },
  });
  const random = seededRandom(5, name);
  const values = new Map();
  const weights = (parameter, shape) => {
    const size = shape.reduce((product, n) => product * n, 1);
    if (!values.has(parameter)) {
      const drawn = random.normals(size, /norm/.test(parameter) ? 0.1 : 1 / Math.sqrt(shape.at(-1)));
      values.set(parameter, roundToBfloat16(drawn.map((x) => (/norm/.test(parameter) ? 1 + x : x))));
    }
    return values.get(parameter).slice();
  };
  const prompt = Int32Array.from({ length: PROMPT }, () => random.integer(config.vocabSize));
  const run = async (backend, text) => {
    await selectBackend(backend);
    const model = LlamaModel.from(config, weights);
    const own = [];
    for await (const token of model.generate(prompt, { maxNewTokens: NEW, temperature: 0 })) own.push(token);
    // Of the same text on both: after another token, all that follows is another.
    const steps = await forced(model, prompt, text ?? own);
    const all = await training(model, prompt);
    model.dispose();
    return { text: own, steps, ...all };
  };
  const slow = await run('cpu');
  const before = onCpu();
  const found = await run(fast, slow.text);
  const ops = onCpu() - before;

  const logits = distance(found.steps.flat(), slow.steps.flat());
  const [wanted, got] = [slow, found].map((one) => [...one.gradients.values()].flatMap((values) => [...values]));
  const all = distance(got, wanted);
  const least = norm(wanted) / 100;
  const each = [...slow.gradients].map(([key, want]) => ({
    key,
    off: distance(found.gradients.get(key), want, least),
  }));
  const worst = each.reduce((a, b) => (b.off > a.off ? b : a));
  const loss = Math.abs(found.loss / slow.loss - 1);
  // Another token is right where the two were as good as equal: the first one alone, since the rest follows from it.
  const at = slow.text.findIndex((token, i) => token !== found.text[i]);
  const row = slow.steps[at];
  const gap = row ? (row[slow.text[at]] - row[found.text[at]]) / (norm(row) / Math.sqrt(row.length)) : 0;
  const isNear = Math.max(logits, loss) < LIMITS.logits && gap < LIMITS.gap;
  const good = ops === 0 && isNear && all < LIMITS.all && worst.off < LIMITS.each;
  const same = row ? `token ${at} another, ${percent(gap)} less likely` : `${NEW} tokens alike`;
  return {
    good,
    line: `${name}: ${same}, logits ${percent(logits)}, loss ${percent(loss)}, gradients ${percent(all)}, at most ${percent(worst.off)} (${worst.key}), ${ops} ops on the CPU`,
  };
}

/** The logits that each token of a text is chosen by, a step a token. */
async function forced(model, prompt, text) {
  const cache = model.createCache();
  const steps = [];
  let next = prompt;
  for (const token of text) {
    const logits = model.nextLogits(next, { cache });
    steps.push([...(await logits.data())]);
    logits.dispose();
    next = Int32Array.of(token);
  }
  cache.dispose();
  return steps;
}

async function training(model, tokens) {
  const targets = Int32Array.from(tokens, (_, i) => tokens[(i + 1) % tokens.length]);
  const batch = { tokens, targets, cuSeqlens: [0, 17, tokens.length] };
  const { loss, gradients } = model.gradients(batch, { scale: 1 / tokens.length });
  const read = new Map();
  for (const [key, gradient] of gradients) read.set(key, await gradient.data());
  const result = { loss: (await loss.data())[0], gradients: read };
  tf.dispose([loss, ...gradients.values()]);
  return result;
}

const norm = (values) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
/** Relative in norm, to `least` at least; of what is not finite, infinite. */
function distance(found, want, least = 1e-20) {
  const off = norm(Float64Array.from(want, (x, i) => x - found[i]));
  return Number.isFinite(off) ? off / Math.max(norm(want), least) : Number.POSITIVE_INFINITY;
}
const percent = (x) => `${(100 * x).toFixed(2)} %`;
