/** What the page takes of TensorFlow.js in place of its union package, which has Keras, converters and WebGL as well. */
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js';
