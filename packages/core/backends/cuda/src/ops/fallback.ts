/**
 * Operations without a kernel here run on TensorFlow.js's CPU backend: inputs are downloaded, the result is uploaded.
 * That is correct but slow, so each operation says so once.
 */
import '@tensorflow/tfjs-backend-cpu';
import { type KernelCall, silenceGreeting } from '@stickbreaking/core/backend';
import type { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import { engine, getKernel, type TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';

const calls = new Map<string, number>();

/** How often each kernel of tfjs has run on the CPU so far, for want of one of the GPU. */
export function ranOnCpu(): ReadonlyMap<string, number> {
  return calls;
}

function count(name: string): void {
  const before = calls.get(name) ?? 0;
  calls.set(name, before + 1);
  if (before > 0) return;
  process.stderr.write(`cuda: no GPU kernel for ${name} with these inputs; it runs on the CPU (slow)\n`);
}

function upload(cuda: CudaBackend, cpu: MathBackendCPU, info: TensorInfo): TensorInfo {
  const values = cpu.readSync(info.dataId);
  const dataId = cuda.write(values, info.shape, info.dtype);
  cpu.disposeData(info.dataId);
  return { dataId, shape: info.shape, dtype: info.dtype };
}

/** Runs the CPU's kernel of this name on inputs meant for the GPU's. */
export function runOnCpu(name: string, { inputs, attrs, backend }: KernelCall): TensorInfo | TensorInfo[] {
  const cuda = backend as CudaBackend;
  const cpu = engine().findBackend('cpu') as MathBackendCPU | null;
  const kernel = getKernel(name, 'cpu');
  if (!cpu || !kernel) throw new Error(`cuda: no kernel ${name}, and the cpu backend has none either`);
  silenceGreeting(cpu);
  count(name);
  const down: TensorInfo[] = [];
  const download = (t: TensorInfo) => {
    const copy = cpu.makeTensorInfo(t.shape, t.dtype, cuda.readSync(t.dataId));
    down.push(copy);
    return copy;
  };
  // Some of tfjs's kernels take a list of tensors (Concat), or one under a name; its types do not say so.
  const all = (given: object): object =>
    Array.isArray(given)
      ? given.map(download)
      : Object.fromEntries(
          Object.entries(given as Record<string, TensorInfo | TensorInfo[] | null | undefined>).flatMap(([key, t]) =>
            t ? [[key, Array.isArray(t) ? all(t) : download(t)]] : [],
          ),
        );
  const onCpu = all(inputs) as KernelCall['inputs'];
  const result = kernel.kernelFunc({ inputs: onCpu, attrs, backend: cpu });
  const outputs = [result].flat().map((info) => upload(cuda, cpu, info));
  for (const { dataId } of down) cpu.disposeData(dataId);
  return Array.isArray(result) ? outputs : outputs[0]!;
}
