/** What `config.json` says of the code for `transformers` that some checkpoints bring (`modeling_file.ts`). */
const MODULE = 'modeling_stickbreaking';

/** Its name in a checkpoint. */
export const MODELING_FILE = `${MODULE}.py`;

/** Its classes. */
export const AUTO_MAP = {
  AutoConfig: `${MODULE}.StickbreakingLlamaConfig`,
  AutoModelForCausalLM: `${MODULE}.StickbreakingLlamaForCausalLM`,
};
