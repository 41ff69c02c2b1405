import { describe, expect, it } from 'vitest';
import { firstHost, placeOf, tasksPerNode } from './place.js';

describe('the place of a process', () => {
  it.each([
    ['nothing', {}, undefined],
    ['one process of one', { RANK: '0', WORLD_SIZE: '1', MASTER_ADDR: 'a', MASTER_PORT: '1' }, undefined],
    [
      'torchrun',
      {
        ...{ RANK: '9', WORLD_SIZE: '16', LOCAL_RANK: '1', LOCAL_WORLD_SIZE: '8' },
        ...{ MASTER_ADDR: 'n0', MASTER_PORT: '29500' },
      },
      { rank: 9, size: 16, localRank: 1, localSize: 8, launcher: 'torchrun', master: { host: 'n0', port: 29500 } },
    ],
    [
      'Open MPI',
      {
        ...{ OMPI_COMM_WORLD_RANK: '3', OMPI_COMM_WORLD_SIZE: '4' },
        ...{ OMPI_COMM_WORLD_LOCAL_RANK: '1', OMPI_COMM_WORLD_LOCAL_SIZE: '2' },
      },
      { rank: 3, size: 4, localRank: 1, localSize: 2, launcher: 'mpirun' },
    ],
    [
      'MPICH',
      { PMI_RANK: '1', PMI_SIZE: '2', MPI_LOCALRANKID: '1', MPI_LOCALNRANKS: '2' },
      { rank: 1, size: 2, localRank: 1, localSize: 2, launcher: 'mpirun' },
    ],
    [
      'a step of Slurm’s',
      {
        ...{ SLURM_PROCID: '5', SLURM_NTASKS: '6', SLURM_STEP_NUM_TASKS: '6', SLURM_LOCALID: '1', SLURM_NODEID: '1' },
        ...{ SLURM_STEP_TASKS_PER_NODE: '4,2', SLURM_STEP_NODELIST: 'n[3-4]', SLURM_JOB_ID: '120042' },
      },
      { rank: 5, size: 6, localRank: 1, localSize: 2, launcher: 'srun', master: { host: 'n3', port: 15_042 } },
    ],
    // It has the variables of a job and of its first task, but is no step of it.
    ['a batch script of Slurm’s', { SLURM_PROCID: '0', SLURM_NTASKS: '4', SLURM_JOB_ID: '7' }, undefined],
  ])('%s', (_, environment, place) => {
    expect(placeOf(environment)).toEqual(place);
  });

  it.each([
    ['a word for a number', { RANK: 'one', WORLD_SIZE: '2' }, /^The environment variable RANK is 'one'/],
    ['no address of rank 0', { RANK: '0', WORLD_SIZE: '2' }, /MASTER_ADDR or MASTER_PORT is not/],
    [
      'a rank that is too high',
      { RANK: '2', WORLD_SIZE: '2', MASTER_ADDR: 'a', MASTER_PORT: '1' },
      /^torchrun says that this is process 2 of 2/,
    ],
  ])('refuses %s', (_, environment, message) => {
    expect(() => placeOf(environment)).toThrow(message);
  });

  it('reads Slurm’s lists', () => {
    expect(tasksPerNode('4(x2),3')).toEqual([4, 4, 3]);
    expect(['n7', 'n[3-5,8],m1', 'a-[01-02]-x', 'p1,p2'].map(firstHost)).toEqual(['n7', 'n3', 'a-01-x', 'p1']);
  });
});
