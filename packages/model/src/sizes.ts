/** The sizes of a model, which its parts are made from. Every configuration has them. */
export interface ModelSizes {
  hiddenSize: number;
  numHeads: number;
  /** Key-value heads: a divisor of numHeads. */
  numKvHeads: number;
  headDim: number;
  /** The context the model is made for, in tokens. */
  contextLength: number;
  normEpsilon: number;
  /** Standard deviation of the initial weights. */
  initializerRange: number;
}
