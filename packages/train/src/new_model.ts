// The model a run begins with: new weights, or those of a checkpoint.
import { UserError } from '@stickbreaking/base';
import { type LlamaConfig, LlamaModel, loadConfig, parameterShapes } from '@stickbreaking/model';

/**
 * @param startFrom a checkpoint directory; what has no parameters, such as the context length or a RoPE scaling, is
 *   `config`'s
 * @throws UserError where the checkpoint's parameters are not those of `config`
 */
export function newModel(config: LlamaConfig, seed: number, startFrom?: string): LlamaModel {
  if (startFrom === undefined) return LlamaModel.create(config, { seed });
  checkStart(config, startFrom);
  const given = LlamaModel.load(startFrom);
  try {
    return LlamaModel.from(config, (name) => given.parameters.get(name)!.dataSync() as Float32Array);
  } finally {
    given.dispose();
  }
}

/** Looks at the checkpoint's configuration alone. @throws UserError where its parameters are not those of `config` */
export function checkStart(config: LlamaConfig, startFrom: string): void {
  const [given, own] = [parameterShapes(loadConfig(startFrom)), parameterShapes(config)];
  checkSameParameters(given, own, startFrom);
}

type Shapes = ReadonlyMap<string, readonly number[]>;

function checkSameParameters(given: Shapes, own: Shapes, startFrom: string): void {
  for (const name of new Set([...own.keys(), ...given.keys()])) {
    const [theirs, ours] = [given.get(name), own.get(name)];
    if (theirs?.join() === ours?.join()) continue;
    const say = (shape: readonly number[] | undefined) => (shape ? `shape [${shape.join(', ')}]` : 'no such parameter');
    throw new UserError(
      `startFrom: ${startFrom} is of another model: '${name}' has ${say(theirs)} there and ${say(ours)} in this configuration.`,
    );
  }
}
