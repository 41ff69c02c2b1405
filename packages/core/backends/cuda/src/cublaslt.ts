/**
 * Matmul through cuBLASLt: bfloat16 (or eight bits with a scale a row) in, float32 accumulation, bfloat16 or float32 out. The algorithm is chosen
 * once for each shape: the one written down for it (matmul_choices.ts) or the library's own first choice, the same in every
 * process, so that a resumed run repeats its bits; or (autotune) the fastest of its best eight, timed on the real operands, which
 * may differ from one process to the next.
 */
import { bindCublasLt } from './cublaslt_functions.js';
import type { CudaDriver } from './driver.js';
import { CudaError } from './errors.js';
import { loadLibrary } from './libraries.js';
import { type MatmulChoices, matmulChoices } from './matmul_choices.js';

const COMPUTE_32F = 68;
const R_32F = 0;
const R_16BF = 14;
const R_8F_E4M3 = 28;
const DESC_POINTER_MODE = 2;
const POINTER_MODE_DEVICE = 1;
const DESC_TRANSA = 3;
const DESC_TRANSB = 4;
const DESC_A_SCALE_POINTER = 17;
const DESC_B_SCALE_POINTER = 18;
/**
 * Sums of eight-bit numbers as the matrix units make them, without moving partial sums to float32 registers: measured at
 * K = 1,536 to 9,216, the result is off by 1.5 to 3 · 10⁻³ in norm, where rounding it to bfloat16 costs 1.7 · 10⁻³ and the
 * eight bits of the operands thirty times as much.
 */
const DESC_FAST_ACCUM = 25;
const DESC_A_SCALE_MODE = 31;
const DESC_B_SCALE_MODE = 32;
const SCALE_OUTER_VECTOR = 3;
const LAYOUT_BATCH_COUNT = 5;
const LAYOUT_BATCH_STRIDE = 6;
const PREFERENCE_WORKSPACE = 1;
const RESULT_BYTES = 96;
const CANDIDATES = 8;
const TUNING_ROUNDS = 4;
/** Another plan than the first is chosen where the first takes that many times as long. */
const WORTH_CHOOSING = 1.01;
/** Documents of all lengths lead to many shapes; beyond this many plans, all are dropped. */
const MAX_PLANS = 4096;
const WORKSPACE_BYTES = 64 * 2 ** 20;

/** The row-major matmul C [m,n] = alpha · op(A) op(B) + beta · C, for `batch` matrices. */
export interface Product {
  m: number;
  n: number;
  k: number;
  /** A is stored [k,m]. */
  transposeA: boolean;
  /** B is stored [n,k]. */
  transposeB: boolean;
  /** Elements between rows as stored; default: no gap. */
  lda?: number;
  ldb?: number;
  ldc?: number;
  batch?: number;
  /** Elements between the matrices of a batch; 0 repeats one matrix. */
  strideA?: number;
  strideB?: number;
  strideC?: number;
  output: 'bf16' | 'f32';
  /** Device addresses of a float32 for each row of A and B, which are then e4m3, A stored [m,k] and B [n,k]. */
  scales?: { a: number; b: number };
  /** Device address of a float32; default: alpha is one. */
  alpha?: number;
  beta?: 0 | 1;
  /** Never timed: for shapes that change from call to call. */
  untuned?: boolean;
}

interface Plan {
  descriptor: bigint;
  a: bigint;
  b: bigint;
  c: bigint;
  algorithm: Uint8Array;
  workspace: number;
}

export class CublasLt {
  readonly path: string;
  /** The library's own number, and whether its choice of algorithms may differ from one process to the next. */
  readonly version: string;
  private readonly handle: bigint;
  private readonly f: Record<string, (...args: unknown[]) => number>;
  private readonly choices: MatmulChoices;
  /** What autotuning chose, by shape, where that was not the first. */
  readonly tuned: Record<string, number> = {};
  private readonly plans = new Map<string, Plan>();
  private workspace = 0;
  private zeroAndOne = 0;
  private readonly one = new Float32Array([1]);
  private readonly zero = new Float32Array([0]);

  constructor(
    private readonly driver: CudaDriver,
    private readonly autotune: boolean,
  ) {
    const { handle: library, path } = loadLibrary('libcublasLt', ['libcublasLt.so.13', 'libcublasLt.so.12']);
    this.path = path;
    this.f = bindCublasLt(library);
    const version = library.func('cublasLtGetVersion', 'size_t', [])();
    this.choices = matmulChoices(version, driver.deviceName);
    const { hash } = this.choices;
    this.version = autotune ? `${version}, autotuned` : hash ? `${version}, choices ${hash}` : `${version}`;
    this.handle = this.create('cublasLtCreate');
  }

  /** Addresses are device pointers of bfloat16 (A, B) and of the output's type (C). */
  multiply(a: number, b: number, c: number, product: Product): void {
    const { beta, alpha } = product;
    const key = planKey(product);
    let plan = this.plans.get(key);
    if (!plan) {
      if (!this.workspace) this.workspace = this.driver.allocate(WORKSPACE_BYTES);
      if (this.plans.size >= MAX_PLANS) this.forgetPlans();
      plan = this.plan(key, a, b, c, product);
      this.plans.set(key, plan);
    }
    if (product.scales) this.setScales(plan.descriptor, product.scales);
    const run = () => this.run(plan, a, b, c, beta ?? 0, alpha);
    const { onLaunch } = this.driver;
    if (onLaunch) onLaunch(`matmul${product.scales ? ' fp8' : ''} ${product.m}x${product.n}x${product.k}`, run);
    else run();
  }

  private run(plan: Plan, a: number, b: number, c: number, beta: 0 | 1, alpha?: number): void {
    const factors = alpha === undefined ? [this.one, beta ? this.one : this.zero] : [alpha, this.onDevice(beta)];
    const multiply = alpha === undefined ? this.f.cublasLtMatmul! : this.f.cublasLtMatmulOnDevice!;
    // cuBLAS is column-major: row-major C = A·B is column-major Cᵀ = Bᵀ·Aᵀ, so B goes first.
    this.check(
      'cublasLtMatmul',
      multiply(
        this.handle,
        plan.descriptor,
        factors[0],
        b,
        plan.b,
        a,
        plan.a,
        factors[1],
        c,
        plan.c,
        c,
        plan.c,
        plan.algorithm,
        this.workspace,
        plan.workspace,
        this.driver.stream,
      ),
    );
  }

  private plan(key: string, a: number, b: number, c: number, p: Product): Plan {
    const descriptor = this.create('cublasLtMatmulDescCreate', COMPUTE_32F, R_32F);
    this.setInt('cublasLtMatmulDescSetAttribute', descriptor, DESC_TRANSA, p.transposeB ? 1 : 0);
    this.setInt('cublasLtMatmulDescSetAttribute', descriptor, DESC_TRANSB, p.transposeA ? 1 : 0);
    if (p.alpha !== undefined)
      this.setInt('cublasLtMatmulDescSetAttribute', descriptor, DESC_POINTER_MODE, POINTER_MODE_DEVICE);
    if (p.scales) {
      for (const mode of [DESC_A_SCALE_MODE, DESC_B_SCALE_MODE])
        this.setInt('cublasLtMatmulDescSetAttribute', descriptor, mode, SCALE_OUTER_VECTOR);
      const fast = new Int8Array([1]);
      this.check('fast accumulation', this.f.cublasLtMatmulDescSetAttribute!(descriptor, DESC_FAST_ACCUM, fast, 1));
      this.setScales(descriptor, p.scales);
    }
    const input = p.scales ? R_8F_E4M3 : R_16BF;
    const batch = p.batch ?? 1;
    const layout = (
      type: number,
      rows: number,
      columns: number,
      ld: number | undefined,
      stride: number | undefined,
    ) => {
      const made = this.create('cublasLtMatrixLayoutCreate', type, columns, rows, ld ?? columns);
      if (batch > 1) {
        this.setInt('cublasLtMatrixLayoutSetAttribute', made, LAYOUT_BATCH_COUNT, batch);
        const bytes = new BigInt64Array([BigInt(stride ?? rows * columns)]);
        this.check('layout', this.f.cublasLtMatrixLayoutSetAttribute!(made, LAYOUT_BATCH_STRIDE, bytes, 8));
      }
      return made;
    };
    const made = {
      descriptor,
      a: p.transposeA ? layout(input, p.k, p.m, p.lda, p.strideA) : layout(input, p.m, p.k, p.lda, p.strideA),
      b: p.transposeB ? layout(input, p.n, p.k, p.ldb, p.strideB) : layout(input, p.k, p.n, p.ldb, p.strideB),
      c: layout(p.output === 'f32' ? R_32F : R_16BF, p.m, p.n, p.ldc, p.strideC),
    };
    const plans = this.candidates(made, p).map((candidate) => ({ ...made, ...candidate }));
    if (!this.autotune || p.untuned || p.m * p.n * p.k <= 2 ** 27) return plans[this.choices.of(key) ?? 0] ?? plans[0]!;
    const best = this.fastest(plans, a, b, c, p);
    if (best > 0) this.tuned[key] = best;
    return plans[best]!;
  }

  private candidates(made: Omit<Plan, 'algorithm' | 'workspace'>, p: Product): Pick<Plan, 'algorithm' | 'workspace'>[] {
    const preference = this.create('cublasLtMatmulPreferenceCreate');
    const limit = new BigUint64Array([BigInt(WORKSPACE_BYTES)]);
    this.check('preference', this.f.cublasLtMatmulPreferenceSetAttribute!(preference, PREFERENCE_WORKSPACE, limit, 8));
    const results = new Uint8Array(RESULT_BYTES * CANDIDATES);
    const found = new Int32Array(1);
    const status = this.f.cublasLtMatmulAlgoGetHeuristic!(
      this.handle,
      made.descriptor,
      made.b,
      made.a,
      made.c,
      made.c,
      preference,
      CANDIDATES,
      results,
      found,
    );
    this.f.cublasLtMatmulPreferenceDestroy!(preference);
    const count = found[0]!;
    if (status !== 0 || count === 0)
      throw new CudaError(`cuBLASLt has no algorithm for the matmul ${JSON.stringify(p)} (status ${status})`);
    return Array.from({ length: count }, (_, i) => {
      const at = i * RESULT_BYTES;
      const workspace = Number(new DataView(results.buffer).getBigUint64(at + 64, true));
      return { algorithm: results.slice(at, at + 64), workspace };
    });
  }

  /**
   * The place of the fastest plan, each timed on the operands themselves. The output is written anew by the product that
   * follows, or spared.
   */
  private fastest(plans: Plan[], a: number, b: number, c: number, p: Product): number {
    const spare = p.beta ? this.driver.allocate(bytesOf(p)) : undefined;
    const target = spare ?? c;
    const [start, end] = [this.driver.createEvent(true), this.driver.createEvent(true)];
    const times = plans.map(() => Number.POSITIVE_INFINITY);
    for (let round = 0; round < TUNING_ROUNDS; round++)
      for (const [i, plan] of plans.entries()) {
        this.run(plan, a, b, target, 0, p.alpha);
        this.driver.recordEvent(start);
        for (let repeat = 0; repeat < 4; repeat++) this.run(plan, a, b, target, 0, p.alpha);
        this.driver.recordEvent(end);
        times[i] = Math.min(times[i]!, this.driver.elapsed(start, end));
      }
    const least = Math.min(...times);
    const best = times[0]! < least * WORTH_CHOOSING ? 0 : times.indexOf(least);
    this.driver.call('cuEventDestroy_v2', start);
    this.driver.call('cuEventDestroy_v2', end);
    if (spare !== undefined) this.driver.release(spare);
    return best;
  }

  /** Device address of a float32 of 0 or 1. */
  private onDevice(value: 0 | 1): number {
    if (!this.zeroAndOne) {
      this.zeroAndOne = this.driver.allocate(8);
      // Pageable memory: copied before the call returns.
      this.driver.call('cuMemcpyHtoDAsync_v2', this.zeroAndOne, new Float32Array([0, 1]), 8, this.driver.stream);
    }
    return this.zeroAndOne + 4 * value;
  }

  private forgetPlans(): void {
    for (const { descriptor, a, b, c } of this.plans.values()) {
      this.f.cublasLtMatmulDescDestroy!(descriptor);
      for (const layout of [a, b, c]) this.f.cublasLtMatrixLayoutDestroy!(layout);
    }
    this.plans.clear();
  }

  /** cuBLAS's A is our B. */
  private setScales(descriptor: bigint, { a, b }: { a: number; b: number }): void {
    for (const [attribute, address] of [
      [DESC_A_SCALE_POINTER, b],
      [DESC_B_SCALE_POINTER, a],
    ] as const) {
      const pointer = new BigUint64Array([BigInt(address)]);
      this.check('scales', this.f.cublasLtMatmulDescSetAttribute!(descriptor, attribute, pointer, 8));
    }
  }

  private create(name: string, ...args: unknown[]): bigint {
    const out = new BigUint64Array(1);
    this.check(name, this.f[name]!(out, ...args));
    return out[0]!;
  }

  private setInt(name: string, object: bigint, attribute: number, value: number): void {
    this.check(name, this.f[name]!(object, attribute, new Int32Array([value]), 4));
  }

  private check(what: string, status: number): void {
    if (status !== 0) throw new CudaError(`cuBLASLt: ${what} answered status ${status} (${this.path})`);
  }
}

/** Whether a matmul adds to C, and where alpha and scales lie, is decided at each call and is not part of the plan. */
function planKey(p: Product): string {
  const sizes = [p.m, p.n, p.k, p.lda, p.ldb, p.ldc, p.batch, p.strideA, p.strideB, p.strideC];
  return [
    ...sizes,
    p.transposeA,
    p.transposeB,
    p.output,
    p.untuned,
    p.alpha !== undefined,
    p.scales !== undefined,
  ].join();
}

/** From C's first byte to its last. */
function bytesOf({ m, n, ldc = n, batch = 1, strideC = m * n, output }: Product): number {
  return ((batch - 1) * strideC + (m - 1) * ldc + n) * (output === 'f32' ? 4 : 2);
}
