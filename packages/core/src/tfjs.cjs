// TensorFlow.js's union package as Node loads it: required, not imported, as Node would look through five bundles for names
// that nobody asks for, which takes as long again.
require('@tensorflow/tfjs');
