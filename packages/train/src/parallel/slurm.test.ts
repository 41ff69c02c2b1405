// sb-train under srun, with a Slurm of one machine that the test starts for itself. That takes root, Slurm, munge and MPICH
// (Debian: slurmctld slurmd slurm-client munge libpmi2-0 mpich).
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { trainTokenizer } from '@stickbreaking/data';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CheckpointStore, readState } from '../checkpoint.js';
import { readMetrics } from '../metrics.js';
import { start } from './spawned.fixture.js';

const bin = fileURLToPath(new URL('../../bin/sb-train.js', import.meta.url));
const needed = ['slurmctld', 'slurmd', 'srun', 'munged', 'mpirun.mpich'];
const missing = needed.filter((command) => spawnSync(command, ['--version']).error);
const canRun = missing.length === 0 && process.getuid?.() === 0;
if (!canRun) console.warn(`srun is not tested: ${missing.join(', ') || 'root'} missing`);

const base = mkdtempSync(join(tmpdir(), 'slurm-'));
const daemons: ChildProcess[] = [];
const ports = [0, 1].map((i) => 20_000 + ((2 * process.pid) % 20_000) + i);
const env = { ...process.env, SLURM_CONF: join(base, 'slurm.conf'), STICKBREAKING_THREADS: '1' };

const slurmConfig = `ClusterName=test
SlurmctldHost=${hostname()}(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmdPort=${ports[1]}
AuthType=auth/munge
AuthInfo=socket=${base}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=${base}/state
SlurmdSpoolDir=${base}/spool
SlurmctldPidFile=${base}/slurmctld.pid
SlurmdPidFile=${base}/slurmd.pid
SlurmctldLogFile=${base}/slurmctld.log
SlurmdLogFile=${base}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/linear
MpiDefault=none
NodeName=${hostname()} NodeAddr=127.0.0.1 CPUs=1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
`;

const config = `output: ${base}/run
shards: ${base}/tokens
tokenizer: ${base}/tokenizer.json
batchTokens: 128
microBatchTokens: 64
model: { vocabSize: 300, hiddenSize: 32, intermediateSize: 48, numLayers: 1, numHeads: 2, contextLength: 32 }
stages:
  - steps: 6
    schedule: { kind: constant, peak: 0.01 }
    data: [{ path: ${base}/text.jsonl }]
checkpoints: { everySteps: 5 }
`;

function daemon(command: string, ...args: string[]): void {
  daemons.push(spawn(command, args, { env, stdio: 'ignore' }));
}

/** Waits until it is so, for at most half a minute. */
async function until(what: string, isSo: () => boolean): Promise<void> {
  for (let i = 0; !isSo(); i++) {
    if (i === 600) throw new Error(`${what} did not come`);
    await sleep(50);
  }
}

const train = (...args: string[]) => [bin, '--config', join(base, 'run.yaml'), '--backend', 'cpu', ...args];
/** Two tasks of sb-train. */
const srun = (options: readonly string[], ...args: string[]) =>
  start('srun', ['-n2', '--overcommit', ...options, process.execPath, ...train(...args)], env);
const output = (name: string) => `output=${join(base, name)}`;
const losses = (name: string) =>
  readMetrics(join(base, name, 'metrics.jsonl')).flatMap((line) => ('loss' in line ? [line.loss!] : []));
const hasSteps = (name: string, count: number) => () =>
  existsSync(join(base, name, 'metrics.jsonl')) && losses(name).length >= count;

describe.skipIf(!canRun)('under srun', () => {
  beforeAll(async () => {
    for (const folder of ['state', 'spool']) mkdirSync(join(base, folder));
    writeFileSync(join(base, 'slurm.conf'), slurmConfig);
    writeFileSync(join(base, 'key'), randomBytes(128), { mode: 0o400 });
    const files = ['socket', 'pid-file', 'log-file', 'seed-file'].map((name) => `--${name}=${base}/munge.${name}`);
    files[0] = `--socket=${base}/munge.socket`;
    daemon('munged', '--force', '--foreground', `--key-file=${base}/key`, ...files);
    await until('munge', () => existsSync(join(base, 'munge.socket')));
    daemon('slurmctld', '-D', '-c');
    daemon('slurmd', '-D');
    const text = Array.from({ length: 40 }, (_, i) => `the state of the union in year ${i} and ${(7 * i) % 13} more `);
    writeFileSync(join(base, 'text.jsonl'), text.map((one) => `${JSON.stringify({ text: one.repeat(4) })}\n`).join(''));
    writeFileSync(join(base, 'run.yaml'), config);
    const sources = [{ path: join(base, 'text.jsonl') }];
    await trainTokenizer({ sources, vocabSize: 300, output: join(base, 'tokenizer.json') });
    await until('the node', () => spawnSync('sinfo', ['-h', '-o', '%t'], { env }).stdout.toString().trim() === 'idle');
  }, 60_000);
  afterAll(async () => {
    for (const one of daemons.reverse()) {
      one.kill();
      await until('the end of a daemon', () => one.exitCode !== null || one.signalCode !== null);
    }
    rmSync(base, { recursive: true, force: true });
  });

  it('two tasks have the losses of one process', async () => {
    expect(await start(process.execPath, train(output('one')), env).ended).toMatchObject({ code: 0 });
    const { code, stderr } = await srun(['--mpi=pmi2'], output('two')).ended;
    expect(code, stderr).toBe(0);
    expect(losses('two')).toHaveLength(6);
    for (const [i, loss] of losses('two').entries()) expect(Math.abs(loss - losses('one')[i]!)).toBeLessThan(1e-6);
  });

  it('tasks that do not find each other say what is missing', async () => {
    const { code, stderr } = await srun(['--mpi=none'], output('lone')).ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(/finds 1 process where its launcher started 2: .* \(under Slurm: srun --mpi=pmi2 or pmix\)/);
  });

  it('a task that is killed takes the other with it, without --kill-on-bad-exit', async () => {
    const { ended } = srun(['--mpi=pmi2', '--kill-on-bad-exit=0'], output('killed'), 'stages.0.steps=100000');
    await until('step 6', hasSteps('killed', 6));
    process.kill(JSON.parse(readFileSync(join(base, 'killed/ranks/rank-001.log'), 'utf8').split('\n')[0]!).pid, 9);
    const { code, stderr } = await ended;
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/^rank 1 \(.*\), process \d+, ended in step \d+; all others end; go on with --resume/m);
  });

  it('a signal to the step, as before its time is up, is a checkpoint of all', async () => {
    const { ended } = srun(['--mpi=pmi2', '--job-name=stopped'], output('stopped'), 'stages.0.steps=100000');
    await until('step 4', hasSteps('stopped', 4));
    spawnSync('scancel', ['--signal=TERM', '--name=stopped'], { env });
    expect((await ended).code).toBe(143);
    const latest = new CheckpointStore(join(base, 'stopped/checkpoints'), { last: 3, best: true }).latest()!;
    expect(readState(latest).step).toBe(losses('stopped').length);
  });
});
