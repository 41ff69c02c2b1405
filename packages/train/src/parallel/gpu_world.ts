// A process joins those that share its run on GPUs: NCCL moves the tensors, the watchdog's sockets carry NCCL's id.
import type { SelectedBackend } from '@stickbreaking/core';
import type { LlamaModel, SequenceGroup, SharedBy } from '@stickbreaking/model';
import { engine, type Tensor, type Tensor1D, type Tensor2D } from '@tensorflow/tfjs-core';
import type { Collective, ReduceType, Shard } from '../collective.js';
import { decays } from '../optimizer.js';
import type { Place } from './place.js';
import type { SharedWeights } from './shared_weights.js';
import { Watchdog } from './watchdog.js';
import { type JoinOptions, meetingOf, type World } from './world.js';

type Cuda = typeof import('@stickbreaking/core/cuda');
type Gpus = InstanceType<Cuda['Gpus']>;

/** Whether one GPU reads a parameter in bfloat16, so that several may have it in nothing else. FIRE's network is read in float32. */
export function isReadInBfloat16(name: string, { rank }: { rank: number }): boolean {
  return decays(name, rank) && !name.includes('.fire.');
}

class GpuCollective implements Collective {
  readonly rank: number;
  readonly size: number;
  readonly passesTogether: boolean;
  readonly sequence?: SequenceGroup;

  constructor(
    private readonly cuda: Cuda,
    private readonly gpus: Gpus,
    private readonly watchdog: Watchdog,
    private readonly shared: { shard: Shard; orderedSums: boolean; reduceType: ReduceType },
    context: number,
    contextBy: SharedBy,
  ) {
    if (context > 1) this.sequence = { ...gpus.sequence(context), by: contextBy };
    this.passesTogether = shared.shard === 'weights';
    this.rank = gpus.communicator.rank;
    this.size = gpus.communicator.size;
  }

  /** In place. Gradients are summed in the buckets of shared weights instead. */
  sumTensors(tensors: readonly Tensor[]): Promise<readonly Tensor[]> {
    this.gpus.sum(tensors);
    return Promise.resolve(tensors);
  }

  async sumNumbers(numbers: readonly number[]): Promise<readonly number[]> {
    this.watchdog.begin('numbers');
    const all = await this.gpus.exchange(numbers);
    this.watchdog.end();
    return numbers.map((_, i) => all.reduce((sum, one) => sum + one[i]!, 0));
  }

  gather(numbers: Tensor1D): { rows: Tensor2D; values: Promise<number[][]> } {
    this.watchdog.begin('numbers');
    const rows = engine().makeTensorFromTensorInfo(this.gpus.gather(numbers), this.gpus.backend) as Tensor2D;
    const values = rows.array().then((all) => {
      this.watchdog.end();
      this.gpus.check();
      return all;
    });
    return { rows, values };
  }

  share({ parameters }: LlamaModel): SharedWeights {
    return new this.cuda.ShardedWeights(this.gpus, parameters, isReadInBfloat16, this.shared);
  }
}

/**
 * Joins the processes of a run on GPUs, one a GPU. The backend cuda must have been selected.
 *
 * @throws UserError where NCCL is missing or too old, or the processes do not find each other
 */
export async function joinByNccl(
  place: Place,
  backend: Pick<SelectedBackend, 'name'>,
  {
    identity,
    timeoutSeconds,
    shard = 'optimizer',
    context = 1,
    contextBy = 'heads',
    orderedSums = false,
    reduceType = 'float32',
  }: JoinOptions & { shard?: Shard | undefined; orderedSums?: boolean },
): Promise<World & { gpus: Gpus }> {
  const cuda = await import('@stickbreaking/core/cuda');
  // The same bits in every run: rings add in one order, and sums inside a switch do not.
  process.env.NCCL_NVLS_ENABLE ??= '0';
  process.env.NCCL_ALGO ??= 'Ring';
  const { rank, size } = place;
  const { backend: opened } = cuda.openCuda();
  const watchdog = new Watchdog({
    ...{ rank, size, identity, device: `GPU ${opened.driver.uuid.slice(0, 8)}`, meeting: meetingOf(place) },
    payload: rank === 0 ? cuda.ncclId() : undefined,
    ...(timeoutSeconds ? { timeoutSeconds } : {}),
  });
  const id = (await watchdog.ready) as string;
  const isOneHost = place.localSize === size;
  const gpus = new cuda.Gpus(opened, cuda.Communicator.join(rank, size, id, isOneHost));
  gpus.connect(orderedSums || reduceType === 'bfloat16');
  return {
    place,
    gpus,
    watchdog,
    collective: new GpuCollective(cuda, gpus, watchdog, { shard, orderedSums, reduceType }, context, contextBy),
    description: `${size} GPUs by ${gpus.communicator.version} (${backend.name})`,
    close: async () => {
      gpus.close();
      await watchdog.close();
    },
  };
}
