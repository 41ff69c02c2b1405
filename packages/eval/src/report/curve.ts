/** What a picture of curves is made of. */

/** A point of a curve. */
export interface CurvePoint {
  x: number;
  y: number;
  /** The spread around y, such as the lowest and highest of several seeds. */
  low?: number;
  high?: number;
}

/** A named curve. */
export interface Curve {
  name: string;
  points: readonly CurvePoint[];
}

/** Where a picture's axes stand, in pixels; the names of the curves are outside of them. */
export interface Frame {
  width: number;
  left: number;
  /** Of the axes; with the names beside the curves there is more to the right of it. */
  right: number;
  top: number;
  bottom: number;
}
