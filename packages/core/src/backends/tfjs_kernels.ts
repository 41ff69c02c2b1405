/**
 * The kernels of tfjs itself that a backend may replace, by tfjs's names and with its types. They are kept apart from
 * ours, since tfjs has each of them on its `cpu` backend, and a single output is not wrapped in an array.
 */
import type * as tfjs from '@tensorflow/tfjs-core';
import type { TensorInfo } from '@tensorflow/tfjs-core';

type Binary =
  | typeof tfjs.Add
  | typeof tfjs.Sub
  | typeof tfjs.Multiply
  | typeof tfjs.RealDiv
  | typeof tfjs.Maximum
  | typeof tfjs.Minimum
  | typeof tfjs.Greater
  | typeof tfjs.GreaterEqual
  | typeof tfjs.Less
  | typeof tfjs.LessEqual
  | typeof tfjs.Equal
  | typeof tfjs.NotEqual
  | typeof tfjs.SquaredDifference
  | typeof tfjs.Pow;

type Unary =
  | typeof tfjs.Neg
  | typeof tfjs.Exp
  | typeof tfjs.Log
  | typeof tfjs.Sqrt
  | typeof tfjs.Rsqrt
  | typeof tfjs.Square
  | typeof tfjs.Abs
  | typeof tfjs.Relu
  | typeof tfjs.Sigmoid
  | typeof tfjs.Tanh
  | typeof tfjs.Softplus
  | typeof tfjs.Reciprocal
  | typeof tfjs.Log1p
  | typeof tfjs.Sign
  | typeof tfjs.ZerosLike
  | typeof tfjs.OnesLike
  | typeof tfjs.Identity;

interface Others {
  [tfjs.AddN]: { inputs: tfjs.AddNInputs; attrs: object };
  [tfjs.BatchMatMul]: { inputs: tfjs.BatchMatMulInputs; attrs: tfjs.BatchMatMulAttrs };
  [tfjs.BroadcastTo]: { inputs: tfjs.BroadcastToInputs; attrs: tfjs.BroadCastToAttrs };
  [tfjs.Cast]: { inputs: tfjs.CastInputs; attrs: tfjs.CastAttrs };
  [tfjs.Concat]: { inputs: tfjs.ConcatInputs; attrs: tfjs.ConcatAttrs };
  [tfjs.Cumsum]: { inputs: tfjs.CumsumInputs; attrs: tfjs.CumsumAttrs };
  [tfjs.ExpandDims]: { inputs: tfjs.ExpandDimsInputs; attrs: tfjs.ExpandDimsAttrs };
  [tfjs.Fill]: { inputs: object; attrs: tfjs.FillAttrs };
  [tfjs.GatherV2]: { inputs: tfjs.GatherV2Inputs; attrs: tfjs.GatherV2Attrs };
  [tfjs.Max]: { inputs: tfjs.MaxInputs; attrs: tfjs.MaxAttrs };
  [tfjs.Mean]: { inputs: tfjs.MeanInputs; attrs: tfjs.MeanAttrs };
  [tfjs.Reshape]: { inputs: tfjs.ReshapeInputs; attrs: tfjs.ReshapeAttrs };
  [tfjs.Slice]: { inputs: tfjs.SliceInputs; attrs: tfjs.SliceAttrs };
  [tfjs.Softmax]: { inputs: tfjs.SoftmaxInputs; attrs: tfjs.SoftmaxAttrs };
  [tfjs.SplitV]: { inputs: tfjs.SplitVInputs; attrs: tfjs.SplitVAttrs };
  [tfjs.Sum]: { inputs: tfjs.SumInputs; attrs: tfjs.SumAttrs };
  [tfjs.Tile]: { inputs: tfjs.TileInputs; attrs: tfjs.TileAttrs };
  [tfjs.Transpose]: { inputs: tfjs.TransposeInputs; attrs: tfjs.TransposeAttrs };
}
type TfjsKernels = Record<Binary, { inputs: tfjs.BinaryInputs; attrs: object }> &
  Record<Unary, { inputs: tfjs.UnaryInputs; attrs: object }> &
  Others;

/** The name of a kernel of tfjs that a backend may replace. */
export type TfjsKernelName = keyof TfjsKernels;

/** tfjs's types allow missing inputs, but none is ever missing. */
type Present<Inputs> = { [Key in keyof Inputs]: NonNullable<Inputs[Key]> };

/**
 * A backend's replacement for a kernel of tfjs.
 *
 * @returns undefined to leave these inputs to tfjs's own kernel on the CPU
 */
export type TfjsKernel<Name extends TfjsKernelName, Tools> = (
  inputs: Present<TfjsKernels[Name]['inputs']>,
  attrs: TfjsKernels[Name]['attrs'],
  tools: Tools,
) => (Name extends typeof tfjs.SplitV ? TensorInfo[] : TensorInfo) | undefined;

/** The kernels of tfjs that a backend replaces. */
export type TfjsKernelTable<Tools> = { readonly [Name in TfjsKernelName]?: TfjsKernel<Name, Tools> };
