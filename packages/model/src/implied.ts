/**
 * What keys of a model's configuration stand for where they are left out, by their paths. A configuration that says so is of the
 * same model as one that says nothing.
 */
export const IMPLIED_BY_MODEL: Readonly<Record<string, string | number | boolean>> = {
  normPlacement: 'before',
  'attention.sink': false,
  'attention.qkNorm': false,
  'attention.position.rotaryFraction': 1,
  'experts.balanceOver': 'microBatch',
};
