// Which process of a run this is, as its launcher says it in the environment: torchrun's variables, mpirun's or srun's.
import { UserError } from '@stickbreaking/base';

/** One process of several that work on a run. */
export interface Place {
  /** From 0, over all machines. */
  rank: number;
  size: number;
  /** From 0, on this machine. */
  localRank: number;
  localSize: number;
  launcher: 'torchrun' | 'mpirun' | 'srun';
  /** Where rank 0 listens, if that is known. */
  master?: { host: string; port: number };
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * This process's place; undefined where it is alone.
 *
 * @throws UserError that names the variable which makes no sense
 */
export function placeOf(environment: Environment): Place | undefined {
  const place = fromTorchrun(environment) ?? fromMpirun(environment) ?? fromSlurm(environment);
  if (!place || place.size === 1) return undefined;
  const { rank, size, localRank, localSize, launcher } = place;
  if (rank >= size || localRank >= localSize) {
    throw new UserError(
      `${launcher} says that this is process ${rank} of ${size}, and ${localRank} of ${localSize} on this machine; ` +
        'expected numbers below the counts.',
    );
  }
  return place;
}

/** RANK and its siblings, which `--gpus` sets too. */
function fromTorchrun(environment: Environment): Place | undefined {
  const rank = numberIn(environment, 'RANK');
  const size = numberIn(environment, 'WORLD_SIZE');
  if (rank === undefined || size === undefined) return undefined;
  const { MASTER_ADDR: host } = environment;
  const port = numberIn(environment, 'MASTER_PORT');
  if (size > 1 && (host === undefined || port === undefined)) {
    throw new UserError(
      'RANK and WORLD_SIZE are set, but MASTER_ADDR or MASTER_PORT is not: set where rank 0 listens.',
    );
  }
  return {
    rank,
    size,
    localRank: numberIn(environment, 'LOCAL_RANK') ?? rank,
    localSize: numberIn(environment, 'LOCAL_WORLD_SIZE') ?? size,
    launcher: 'torchrun',
    ...(host !== undefined && port !== undefined ? { master: { host, port } } : {}),
  };
}

function fromMpirun(environment: Environment): Place | undefined {
  // Open MPI's variables; those of MPICH and its kin.
  for (const [rank, size, localRank, localSize] of [
    ['OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_LOCAL_SIZE'],
    ['PMI_RANK', 'PMI_SIZE', 'MPI_LOCALRANKID', 'MPI_LOCALNRANKS'],
  ] as const) {
    const [r, s, lr, ls] = [rank, size, localRank, localSize].map((name) => numberIn(environment, name));
    if (r !== undefined && s !== undefined && lr !== undefined)
      return { rank: r, size: s, localRank: lr, localSize: ls ?? s, launcher: 'mpirun' };
  }
  return undefined;
}

/** Only inside a step: a batch script itself has the variables of a job, PROCID 0 among them. */
function fromSlurm(environment: Environment): Place | undefined {
  const size = numberIn(environment, 'SLURM_STEP_NUM_TASKS');
  const rank = numberIn(environment, 'SLURM_PROCID');
  if (size === undefined || size === 1 || rank === undefined) return undefined;
  const localRank = numberIn(environment, 'SLURM_LOCALID') ?? 0;
  const counts = tasksPerNode(environment.SLURM_STEP_TASKS_PER_NODE ?? String(size));
  const localSize = counts[numberIn(environment, 'SLURM_NODEID') ?? 0] ?? size;
  const host = environment.MASTER_ADDR ?? firstHost(environment.SLURM_STEP_NODELIST ?? '');
  const port = numberIn(environment, 'MASTER_PORT') ?? 15_000 + ((numberIn(environment, 'SLURM_JOB_ID') ?? 0) % 10_000);
  return { rank, size, localRank, localSize, launcher: 'srun', master: { host, port } };
}

/** 4(x2),3 → 4, 4, 3 */
export function tasksPerNode(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const [, count, times] = /^(\d+)(?:\(x(\d+)\))?$/.exec(part) ?? [];
    return Array<number>(Number(times ?? 1)).fill(Number(count ?? 1));
  });
}

/** n[3-5,8],m1 → n3 */
export function firstHost(list: string): string {
  const [, prefix, first, rest] = /^([^[,]*)(?:\[(\w+)[^\]]*\])?([^,]*)/.exec(list) ?? [];
  return `${prefix ?? ''}${first ?? ''}${rest ?? ''}` || 'localhost';
}

function numberIn(environment: Environment, name: string): number | undefined {
  const text = environment[name];
  if (text === undefined || text === '') return undefined;
  if (/^\d+$/.test(text)) return Number(text);
  throw new UserError(`The environment variable ${name} is '${text}'; expected a whole number from 0.`);
}
