/**
 * Registers the gradients of tfjs's own ops. tfjs-core's bundle for Node leaves them out; importing the union package
 * once puts them into the same registry that everything here uses. It also registers the `cpu` backend. `#tfjs` is that
 * package, and for types src/tfjs.d.ts (see `imports` in package.json).
 */
import '#tfjs';
