/**
 * Our model in PyTorch, which lies in each checkpoint that no class of `transformers` opens, so that
 * `AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)` does.
 */
import { fileURLToPath } from 'node:url';
import { readWhole } from '@stickbreaking/base/node';

const MODULE = 'modeling_stickbreaking';

/** Its name in a checkpoint. */
export const MODELING_FILE = `${MODULE}.py`;

/** What `config.json` says of its classes. */
export const AUTO_MAP = {
  AutoConfig: `${MODULE}.StickbreakingLlamaConfig`,
  AutoModelForCausalLM: `${MODULE}.StickbreakingLlamaForCausalLM`,
};

/** In the package, and beside the programs of a bundle. */
const file = fileURLToPath(new URL(`../python/${MODELING_FILE}`, import.meta.url));

export const readModelingFile = () => readWhole(file);
