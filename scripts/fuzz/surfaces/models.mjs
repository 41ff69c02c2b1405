// Models and tokenizers, as they lie on the disk.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  evalArguments,
  expectedScores,
  filesUnder,
  finiteScores,
  jsonText,
  mutateAnyFile,
  mutatedBytes,
  mutatedTree,
  sameScores,
} from './shared.mjs';

/** Keys that configurations of other programs have. */
const foreign = [
  {},
  { rope_scaling: { rope_type: 'linear', factor: 2 } },
  { rope_scaling: { type: 'dynamic', factor: 2.5 }, max_position_embeddings: 32 },
  { model_type: 'mistral', architectures: ['MistralForCausalLM'], sliding_window: 16 },
  {
    ...{ model_type: 'smollm3', no_rope_layers: [1, 0], use_sliding_window: true, sliding_window: 16 },
    layer_types: ['full_attention', 'sliding_attention'],
  },
  { model_type: 'phi3', architectures: ['Phi3ForCausalLM'], partial_rotary_factor: 0.5 },
  { bos_token_id: 1, eos_token_id: [0, 2], torch_dtype: 'bfloat16', attention_bias: false, hidden_act: 'silu' },
];

/** The newest checkpoint of a run, from the fixtures' folder. */
function newestOf(base, run) {
  const steps = readdirSync(join(base, run, 'checkpoints')).filter((name) => name.startsWith('step-'));
  return join(run, 'checkpoints', steps.sort().at(-1));
}

export const models = {
  /** A tokenizer.json: its tree, or its bytes. */
  async tokenizer({ base, folder, choose, mutations }) {
    const text = readFileSync(join(base, 'tokenizer.json'));
    const file = join(folder, 'tokenizer.json');
    const asTree = choose.below(2) === 0;
    writeFileSync(file, asTree ? jsonText(mutatedTree(JSON.parse(text), mutations)) : mutatedBytes(text, mutations));
    if (choose.below(3) === 0) {
      const output = join(folder, 'small.json');
      return {
        command: 'sb-tokenizer',
        args: ['shrink', '--input', file, '--vocab-size', '280', '--output', output],
      };
    }
    return { command: 'sb-eval', args: evalArguments(base, ['--tokenizer', file]), accepted: finiteScores };
  },

  /** A file of a checkpoint, evaluated. */
  async checkpoint(tools) {
    const { base, folder, choose, mutations, copy } = tools;
    copy(newestOf(base, 'run'), 'checkpoint');
    mutateAnyFile(choose.pick(filesUnder(join(folder, 'checkpoint'))), choose, mutations);
    const args = evalArguments(base);
    const want = await expectedScores(tools, args);
    if (choose.below(3) === 0) {
      const trusting = [
        ...args.map((one) => (one === join(base, 'run') ? join(folder, 'checkpoint') : one)),
        '--no-verify',
      ];
      return { command: 'sb-eval', args: trusting, accepted: finiteScores };
    }
    const own = args.map((one) => (one === join(base, 'run') ? join(folder, 'checkpoint') : one));
    return { command: 'sb-eval', args: own, accepted: sameScores(want) };
  },

  /** A model from elsewhere, which has no checksums: its config.json as others write it, its weights. */
  async 'foreign-model'({ base, folder, choose, mutations, copy }) {
    copy(newestOf(base, 'llama'), 'model');
    rmSync(join(folder, 'model/checksums.json'));
    const files = filesUnder(join(folder, 'model')).filter((path) => !path.endsWith('optimizer.safetensors'));
    const config = join(folder, 'model/config.json');
    const target = choose.pick([...files, config, config, config]);
    if (target === config) {
      const { stickbreaking, ...rest } = JSON.parse(readFileSync(config));
      const own = choose.below(2) === 0 ? { stickbreaking } : {};
      const tree = { ...rest, ...own, ...choose.pick(foreign) };
      writeFileSync(config, jsonText(mutatedTree(tree, mutations)));
    } else mutateAnyFile(target, choose, mutations);
    const args = evalArguments(base).map((one) => (one === join(base, 'run') ? join(folder, 'model') : one));
    return { command: 'sb-eval', args, accepted: finiteScores };
  },
};
