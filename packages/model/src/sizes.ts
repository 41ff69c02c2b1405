/** The sizes of a model, which determine its parts. Every configuration has them. */
export interface ModelSizes {
  hiddenSize: number;
  numHeads: number;
  /** Key-value heads: a divisor of numHeads. */
  numKvHeads: number;
  headDim: number;
  /** The context length the model is trained for, in tokens. */
  contextLength: number;
  normEpsilon: number;
  /** Standard deviation of the initial weights. */
  initializerRange: number;
  mup?: { attentionMultiplier?: number | undefined } | undefined;
}

/** Factor on q·k. */
export const attentionScale = ({ headDim, mup }: Pick<ModelSizes, 'headDim' | 'mup'>) =>
  mup?.attentionMultiplier ?? 1 / Math.sqrt(headDim);
