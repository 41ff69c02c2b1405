// `npm run bench -- NAME`: measures this project on this machine; each bench is a program of its own under scripts/bench/.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const benches = {
  cpu: 'the native CPU backend: matmuls, attention, a training step with its profile, long contexts',
  cuda: 'the fused attention kernels on one GPU, beside PyTorch with --pytorch',
  'cuda-train': 'a training step of the 1B model, on one GPU or with --gpus on several',
  'cuda-context': 'a layer over one long sequence that several GPUs share (--gpus)',
  run: 'a run of sb-train: how long it takes to start, and what saving costs (--gpus, --processes)',
  nccl: 'sums and copies between the GPUs of this machine (--gpus)',
  'cuda-curves': 'losses of training runs in each precision, beside another seed',
  'cuda-generate': 'generation by the 1B model on one GPU',
  'cuda-moe': 'a mixture of experts on the GPU, kernel by kernel, beside PyTorch with --pytorch',
  'cuda-distance': 'how far a run in bfloat16 parts from one in float32, beside PyTorch with --pytorch',
  'cuda-skip': 'what block skipping saves on a trained model and real text',
  generate: 'generation: tokens/s alone and in batches, by context, beside another build',
  'train-pairs': 'training on the CPU beside another build of the project, in turns',
  checkpoint: 'what the checksums of a checkpoint cost when it is saved and loaded',
  golden:
    'the losses of a tiny training run for each kind of attention, compared with recorded ones (a check, not a timing)',
  tasks: 'tasks on the CPU: how long the texts of RULER take, and a small model on choices',
  'cuda-tasks': 'tasks with the 1B model on one GPU: HellaSwag, MMLU, RULER at 65,536 tokens',
  'cuda-check': 'every GPU kernel compared with float64 (a check, not a timing)',
};

const [name, ...options] = process.argv.slice(2);
if (!Object.hasOwn(benches, name ?? '')) {
  const asked = name === undefined || name === '--help';
  const width = Math.max(...Object.keys(benches).map((one) => one.length));
  const lines = Object.entries(benches).map(([one, what]) => `  ${one.padEnd(width)} ${what}`);
  if (!asked) console.error(`There is no bench '${name}'.`);
  (asked ? console.log : console.error)(['usage: npm run bench -- NAME [options]', ...lines].join('\n'));
  process.exit(asked ? 0 : 1);
}
const program = fileURLToPath(new URL(`bench/${name}.mjs`, import.meta.url));
process.exit(spawnSync(process.execPath, [program, ...options], { stdio: 'inherit' }).status ?? 1);
