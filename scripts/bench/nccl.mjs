// `npm run bench -- nccl --gpus n|all`: how fast the GPUs of this machine sum and copy, for buckets of several sizes. Bus
// bandwidth as NCCL's own tests count it: bytes · (n−1)/n a second, twice that for an all-reduce. Writes JSON.
import { mkdirSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { median } from '@stickbreaking/base';
import { commandGiven, joinGpus, openGpu } from './gpu.mjs';

const { values: o } = parseArgs({
  options: { gpus: { type: 'string', default: 'all' }, out: { type: 'string', default: 'benchmarks' } },
});
const world = await joinGpus(o.gpus);
const { rank, size } = world.collective;
const backend = await openGpu(rank === 0);
const { driver } = backend;
const { communicator } = world.gpus;

const MEBI = 2 ** 20;
const [address, other] = [driver.allocate(512 * MEBI), driver.allocate(512 * MEBI)];
// Where copy engines exchange, as sums in order by them do.
const engines = communicator.memory(2 * 512 * MEBI);
const calls = {
  'reduce-scatter f32': (bytes) => communicator.reduceScatter(address, bytes / 4 / size, 'f32', driver.stream),
  'all-gather bf16': (bytes) => communicator.allGather(address, bytes / 2 / size, 'bf16', driver.stream),
  'all-reduce f32': (bytes) => communicator.allReduce(address, bytes / 4, 'f32', driver.stream),
  'all-to-all': (bytes) => communicator.allToAll(address, other, bytes / size, driver.stream),
  ...(engines === undefined
    ? {}
    : {
        'all-to-all, engines': (bytes) =>
          communicator.allToAll(engines, engines + 512 * MEBI, bytes / size, driver.stream, true),
      }),
};
if (engines !== undefined) checkEngines();

/** Both ways bring the same bytes to the same places. */
function checkEngines() {
  const bytes = 64 * 1024 * size;
  const given = Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + 31 * rank + (i >> 16)) & 255);
  const read = (from) => {
    const result = new Uint8Array(bytes);
    driver.call('cuMemcpyDtoHAsync_v2', result, from, bytes, driver.stream);
    driver.synchronize();
    return Buffer.from(result);
  };
  for (const to of [address, engines]) backend.upload(to, given);
  communicator.allToAll(address, other, bytes / size, driver.stream);
  communicator.allToAll(engines, engines + 512 * MEBI, bytes / size, driver.stream, true);
  const same = read(other).equals(read(engines + 512 * MEBI));
  console.log(`rank ${rank}: copy engines ${same ? 'bring the same bytes' : 'DO NOT BRING THE SAME BYTES'}`);
  if (!same) process.exitCode = 1;
}

const results = [];
for (const mebibytes of [1, 8, 25, 113, 512]) {
  const bytes = Math.floor((mebibytes * MEBI) / (64 * size)) * 64 * size;
  for (const [name, call] of Object.entries(calls)) {
    for (let i = 0; i < 3; i++) call(bytes);
    const times = Array.from({ length: 10 }, () => {
      const [start, end] = [driver.createEvent(true), driver.createEvent(true)];
      driver.recordEvent(start);
      call(bytes);
      driver.recordEvent(end);
      return driver.elapsed(start, end);
    });
    const ms = median(times);
    const moved = (bytes * (size - 1) * (name.startsWith('all-reduce') ? 2 : 1)) / size;
    results.push({ name, mebibytes, ms, busGBs: moved / ms / 1e6 });
  }
}
if (rank === 0) {
  for (const { name, mebibytes, ms, busGBs } of results)
    console.log(
      `${name.padEnd(20)} ${String(mebibytes).padStart(4)} MiB ${ms.toFixed(3).padStart(8)} ms ${busGBs.toFixed(0).padStart(5)} GB/s`,
    );
  mkdirSync(o.out, { recursive: true });
  const report = {
    command: commandGiven('nccl', o.out),
    gpu: driver.deviceName,
    gpus: size,
    date: new Date().toISOString(),
  };
  writeFileSync(
    `${o.out}/nccl-${size}.json`,
    `${JSON.stringify({ ...report, library: communicator.version, results }, null, 2)}\n`,
  );
}
await world.close();
