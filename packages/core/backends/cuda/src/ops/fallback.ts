/**
 * Operations without a kernel here run on TensorFlow.js's CPU backend: inputs come down, the result goes up. Correct and
 * slow, so each one says so once.
 */
import '@tensorflow/tfjs-backend-cpu';
import { engine, getKernel, getKernelsForBackend, type KernelBackend, type TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { BACKEND_NAME, type KernelCall, registerTable } from './define.js';

interface CpuBackend extends KernelBackend {
  firstUse: boolean;
  makeTensorInfo(shape: number[], dtype: string, values: unknown): TensorInfo;
  disposeIntermediateTensorInfo(info: TensorInfo): void;
}

const warned = new Set<string>();

function warnOnce(name: string): void {
  if (warned.has(name)) return;
  warned.add(name);
  process.stderr.write(`cuda: no GPU kernel for ${name} with these inputs; it runs on the CPU (slow)\n`);
}

function upload(cuda: CudaBackend, cpu: CpuBackend, info: TensorInfo): TensorInfo {
  const values = cpu.readSync(info.dataId);
  const dataId = cuda.write(values, info.shape, info.dtype);
  cpu.disposeData(info.dataId);
  return { dataId, shape: info.shape, dtype: info.dtype };
}

export function runOnCpu(name: string, call: KernelCall): TensorInfo | TensorInfo[] {
  const cpu = engine().findBackend('cpu') as CpuBackend;
  const kernel = getKernel(name, 'cpu');
  if (!cpu || !kernel) throw new Error(`cuda: no kernel ${name}, and the cpu backend has none either`);
  cpu.firstUse = false;
  warnOnce(name);
  const download = (t: TensorInfo) => cpu.makeTensorInfo(t.shape, t.dtype, call.backend.readSync(t.dataId));
  const given = Object.entries(call.inputs).filter(([, t]) => t != null);
  const inputs = Object.fromEntries(
    given.map(([key, t]) => [key, Array.isArray(t) ? t.map(download) : download(t)]),
  ) as Record<string, TensorInfo>;
  const result = kernel.kernelFunc({ inputs, attrs: call.attrs as never, backend: cpu }) as TensorInfo | TensorInfo[];
  const outputs = (Array.isArray(result) ? result : [result]).map((info) => upload(call.backend, cpu, info));
  for (const t of Object.values(inputs).flat()) cpu.disposeData(t.dataId);
  return Array.isArray(result) ? outputs : outputs[0]!;
}

/** Registers the CPU's version of every operation that this backend lacks. */
export function registerFallbacks(): void {
  for (const { kernelName } of getKernelsForBackend('cpu'))
    if (!getKernel(kernelName, BACKEND_NAME)) registerTable({ [kernelName]: (call) => runOnCpu(kernelName, call) });
}
