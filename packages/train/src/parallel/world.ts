// A process joins those that share its run: it finds them, agrees with them on what they run, and gets what sums over them.
import { hostname } from 'node:os';
import { UserError } from '@stickbreaking/base';
import type { SharedBy } from '@stickbreaking/model';
import type { Collective, ReduceType, Shard } from '../collective.js';
import { TOKEN } from './launch.js';
import { MpiCollective } from './mpi_collective.js';
import type { Place } from './place.js';
import { type Meeting, Watchdog } from './watchdog.js';

/** The processes of a run, as one of them sees them. */
export interface World {
  place: Place;
  collective: Collective;
  watchdog: Watchdog;
  /** One line for people. */
  description: string;
  /** Ends well: every process must. */
  close(): Promise<void>;
}

export interface JoinOptions {
  /** Plain JSON that must be equal in all processes. */
  identity: unknown;
  /** How long to wait for a process that does not come; default 600. */
  timeoutSeconds?: number;
  /** How many processes that follow one another share a sequence; default 1. */
  context?: number;
  /** How: by heads, unless it says otherwise. */
  contextBy?: SharedBy;
  /** In what form gradients of matrices travel; default 'float32'. */
  reduceType?: ReduceType | undefined;
}

/**
 * Joins the processes that mpirun started, on the CPU.
 *
 * @throws UserError where there is no MPI library, or it does not find the others
 */
export async function joinByMpi(
  place: Place,
  {
    identity,
    timeoutSeconds,
    shard,
    context,
    contextBy,
    reduceType,
  }: JoinOptions & { shard?: Exclude<Shard, 'weights'> | undefined },
): Promise<World> {
  const { Mpi } = await import('./mpi.js'); // koffi with it, which a run in one process does without
  const mpi = Mpi.open(place.size);
  const settings = { rank: mpi.rank, size: mpi.size, identity, ...(timeoutSeconds ? { timeoutSeconds } : {}) };
  let watchdog: Watchdog | undefined;
  let told = '';
  if (mpi.rank === 0) {
    watchdog = new Watchdog(settings);
    told = JSON.stringify({ host: hostname(), ...(await watchdog.meeting) });
  }
  const { host, ...meeting } = JSON.parse(await mpi.broadcast(told)) as Meeting & { host: string };
  watchdog ??= new Watchdog({ ...settings, meeting: { ...meeting, hosts: reachable(meeting.hosts, host) } });
  await watchdog.ready;
  return {
    place,
    watchdog,
    collective: new MpiCollective(mpi, watchdog, { shard, context, contextBy, reduceType }),
    description: `${mpi.size} processes by ${mpi.version}`,
    close: async () => {
      await watchdog.close();
      mpi.close();
    },
  };
}

/** A machine reaches itself by its own address, and others by theirs. */
function reachable(hosts: readonly string[], host: string): string[] {
  const [own, ...others] = hosts as [string, ...string[]];
  return host === hostname() ? [own] : others;
}

/** Where the processes of a launcher that names rank 0's address meet. */
export function meetingOf({ launcher, master }: Place): Meeting {
  if (!master) throw new UserError(`${launcher} does not say where rank 0 listens: set MASTER_ADDR and MASTER_PORT.`);
  // torchrun's own store listens at the port it names.
  const port = process.env.TORCHELASTIC_USE_AGENT_STORE === 'True' ? master.port + 1 : master.port;
  const token = process.env[TOKEN] ?? process.env.TORCHELASTIC_RUN_ID ?? process.env.SLURM_JOB_ID ?? 'run';
  return { hosts: [master.host], port, token };
}
