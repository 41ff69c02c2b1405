/**
 * The types that come with `@tensorflow/tfjs`, as far as they are needed: the ops as methods of tensors. Its own reach the
 * declarations of tfjs-layers, which do not pass `tsc --strict`. tfjs-core names a global `Long` and does not say whose.
 */
/// <reference types="long" />
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js';
