// How many processes a command asks for, and whether this is one of them or the one that starts them.
import { EXIT, OptionError, UserError } from '@stickbreaking/base';
import { checkProcesses } from '@stickbreaking/base/node';
import type { Nodes } from './launch.js';
import { launchOnCpu, launchOnGpus } from './launch.js';
import { type Place, placeOf } from './place.js';

/** The options of a command that may run in several processes. */
export interface ParallelArguments {
  processes: number | undefined;
  gpus: string | undefined;
  nodes: number | undefined;
  node: number | undefined;
  master: string | undefined;
}

const NAMES = ['processes', 'gpus', 'nodes', 'node', 'master'] as const;

/**
 * Starts the processes that the command asks for and waits for them, or says which of them this is.
 *
 * @param visibleGpus how many GPUs this machine shows
 * @param permit called before any is started, with the backend and how many there will be, over all machines; may throw
 * @returns the processes' exit code; or this process's place, undefined where it is alone
 * @throws UserError where the options do not fit together, or this machine has not what they ask for
 */
export async function startProcesses(
  args: ParallelArguments,
  backend: string,
  visibleGpus: () => Promise<number>,
  permit: (backend: string, processes: number) => void = () => {},
): Promise<{ exitCode: number } | { place: Place | undefined }> {
  checkOptions(args, backend);
  const place = placeOf(process.env);
  const { processes, nodes } = args;
  if (place) {
    if ((processes ?? 1) > 1 || (args.gpus ?? '1') !== '1') {
      throw new UserError(
        `--${processes ? 'processes' : 'gpus'} starts processes of its own, but this is process ${place.rank} of ` +
          `${place.size} that ${place.launcher} started: leave one of the two out.`,
      );
    }
    if (backend === 'auto' || backend === 'cuda') narrowGpus(place, backend);
    return { place };
  }
  const gpus = await gpusAsked(args, visibleGpus, true);
  if (processes !== undefined && processes > 1) {
    const taken = withProcesses(args, backend);
    permit(taken, processes);
    const own = backend === 'auto' ? ['--backend', taken] : [];
    return { exitCode: await launchOnCpu(processes, [...commandLine(), ...own]) };
  }
  if (gpus !== undefined && gpus * (nodes ?? 1) > 1) {
    permit('cuda', gpus * (nodes ?? 1));
    const own = backend === 'auto' ? ['--backend', 'cuda'] : [];
    return { exitCode: await launchOnGpus(gpus, [...commandLine(), ...own], nodesOf(args)) };
  }
  return { place: undefined };
}

const USAGE = { exitCode: EXIT.usage };

/** The backend that is asked for, where several processes leave no choice. */
export function withProcesses({ processes }: Pick<ParallelArguments, 'processes'>, backend: string): string {
  return backend === 'auto' && processes !== undefined && processes > 1 ? 'native' : backend;
}

/**
 * @param isPlan whether nothing is started, so that how many machines there are is all that has to be known of them
 * @throws UserError where the options do not fit together
 */
export function checkOptions(
  { processes, gpus, nodes, node, master }: ParallelArguments,
  backend: string,
  isPlan = false,
): void {
  if (processes !== undefined) checkProcesses('--processes', processes);
  if (processes !== undefined && gpus !== undefined)
    throw new UserError('--processes is for the CPU and --gpus for GPUs: leave one of the two out.', USAGE);
  if (processes !== undefined && processes > 1 && backend === 'cuda')
    throw new UserError('--processes is for the CPU, and the backend is cuda: use --gpus.', USAGE);
  if (gpus !== undefined && backend !== 'cuda' && backend !== 'auto')
    throw new UserError(`--gpus needs the backend cuda, and it is ${backend}: leave one of the two out.`, USAGE);
  if (nodes !== undefined && !(Number.isInteger(nodes) && nodes >= 1))
    throw new OptionError('--nodes', nodes, 'a whole number from 1');
  if (isPlan && gpus !== undefined && node === undefined && master === undefined) return;
  const given = [nodes, node, master].filter((one) => one !== undefined).length;
  if (given > 0 && (given < 3 || gpus === undefined))
    throw new UserError(
      '--nodes, --node and --master go together, with --gpus: this machine is one of several.',
      USAGE,
    );
  if (nodes !== undefined && !(Number.isInteger(node) && node! >= 0 && node! < nodes))
    throw new OptionError('--node', node, `a whole number from 0 to ${nodes - 1}, as --nodes is ${nodes}`);
}

/**
 * How many GPUs of this machine the command asks for.
 *
 * @param visible how many it shows; asked only where that matters
 * @param mustBeThere whether so many have to be there: a plan is made without them
 * @throws UserError where `--gpus` is neither a number nor `all`, or there are not so many
 */
export async function gpusAsked(
  { gpus: asked }: Pick<ParallelArguments, 'gpus'>,
  visible: () => Promise<number>,
  mustBeThere: boolean,
): Promise<number | undefined> {
  if (asked === undefined) return undefined;
  if (asked !== 'all' && !/^[1-9]\d*$/.test(asked))
    throw new OptionError('--gpus', `'${asked}'`, 'a whole number from 1, or all');
  if (asked !== 'all' && !mustBeThere) return Number(asked);
  const there = await visible();
  if (asked === 'all') {
    if (there === 0) throw new UserError('--gpus all: this machine shows no NVIDIA GPU (see nvidia-smi).');
    return there;
  }
  if (Number(asked) <= there) return Number(asked);
  const visibleTo = process.env.CUDA_VISIBLE_DEVICES;
  throw new UserError(
    `--gpus ${asked}: this machine shows ${there} ${there === 1 ? 'GPU' : 'GPUs'}` +
      `${visibleTo === undefined ? '' : ` (CUDA_VISIBLE_DEVICES is '${visibleTo}')`}.`,
  );
}

function nodesOf({ nodes, node, master }: ParallelArguments): Nodes | undefined {
  if (nodes === undefined) return undefined;
  const [, host, port] = /^\[?([^\]]+?)\]?:(\d+)$/.exec(master!) ?? [];
  if (!host) throw new OptionError('--master', `'${master}'`, 'host:port, where node 0 listens, such as a:29500');
  return { count: nodes, own: node!, master: { host, port: Number(port) } };
}

/** This command's file and arguments, without those that ask for processes. */
export function commandLine(argv: readonly string[] = process.argv.slice(1)): string[] {
  const kept: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const [, name, value] = /^--([a-z]+)(=.*)?$/.exec(argv[i]!) ?? [];
    if (!NAMES.some((one) => one === name)) kept.push(argv[i]!);
    else if (value === undefined) i++;
  }
  return kept;
}

/**
 * Leaves this process only the GPU that is its own. The driver reads the list when it is first asked anything, so
 * nothing may have looked for a GPU before.
 */
export function narrowGpus({ localRank, localSize, launcher }: Place, backend: 'auto' | 'cuda' = 'cuda'): void {
  const visible = process.env.CUDA_VISIBLE_DEVICES;
  const list = visible?.split(',').filter(Boolean);
  // Slurm may have bound each task to its own GPU. With none the run may still be meant for the CPU.
  if (list?.length === 1 || (list?.length === 0 && backend === 'auto')) return;
  if (list && list.length < localSize) {
    throw new UserError(
      `${launcher} started ${localSize} processes on this machine, and CUDA_VISIBLE_DEVICES shows ${list.length} GPUs: ` +
        'start one process for each GPU.',
    );
  }
  process.env.CUDA_VISIBLE_DEVICES = list ? list[localRank]! : String(localRank);
}
