/**
 * Our model in PyTorch, which lies in each checkpoint that no class of `transformers` opens, so that
 * `AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)` does.
 */
import { fileURLToPath } from 'node:url';
import { readWhole } from '@stickbreaking/base/node';
import { MODELING_FILE } from './modeling_names.js';

/** In the package, and beside the programs of a bundle. */
const file = fileURLToPath(new URL(`../python/${MODELING_FILE}`, import.meta.url));

export const readModelingFile = () => readWhole(file);
