/** One call of the fused attention kernels: which of them run, over which heads at a time, with which memory of their own. */
import type { SoftmaxAttributes, StickBreakingAttributes } from '@stickbreaking/core/backend';
import type { CudaBackend } from '../backend.js';
import { ATTENTION, TILE_ROWS } from '../kernel_interface.js';
import { type Argument, pointer } from '../launch.js';
import type { Scratch } from '../scratch.js';
import { type AttentionPlans, attentionPlans, headsOfSection, type Plan } from './attention_plan.js';
import { FireTable, fireCall } from './fire_table.js';
import { ABSENT, type AttentionArguments } from './flash_arguments.js';
import {
  BACKWARD,
  BACKWARD_KEYS,
  BACKWARD_QUERIES,
  FAR_BLOCKS,
  FAR_KEYS,
  FAR_QUERIES,
  FAR_SORT,
  type FlashKernel,
  type FlashVariant,
  FORWARD,
  flashMacros,
  leastStick,
  sharedBytes,
  threadsOf,
  tileSumBytes,
  warpgroupsOf,
} from './flash_blocks.js';
import { FarRows, type FarSettings } from './flash_far.js';
import { FlashLevels, type LevelSettings } from './flash_levels.js';
import { type AttentionInputs, FlashTensors } from './flash_tensors.js';

/** Keys and values of so many bytes are worked on at a time, so that they stay in the second-level cache. */
const SECTION_BYTES = 16 * 2 ** 20;
/** The same for the backward in one kernel, whose sums are in float32 and pass through that cache many times. */
const SUM_SECTION_BYTES = 32 * 2 ** 20;
/** What the backward keeps between blocks or kernels; heads are taken in turns where they would need more. */
const SCRATCH_BYTES = 2 ** 30;

/** The heads of a launch: query heads, or key heads where blocks are of keys. */
interface Part {
  firstHead: number;
  headCount: number;
  sectionHeads: number;
}

export class FlashCall {
  readonly plans: AttentionPlans;
  readonly tensors: FlashTensors;
  readonly heads: number;
  readonly kvHeads: number;
  readonly queries: number;
  readonly keys: number;
  /** The kernels' head dimension. */
  readonly dim: number;
  readonly fire: FireTable | undefined;

  constructor(
    readonly mechanism: 'stick-breaking' | 'softmax',
    inputs: AttentionInputs,
    private readonly attrs: StickBreakingAttributes | SoftmaxAttributes,
    readonly backend: CudaBackend,
    private readonly scratch: Scratch,
    private readonly farther = false,
  ) {
    this.tensors = new FlashTensors(inputs, attrs, backend, scratch);
    const { queries, heads, keys, kvHeads, dim } = this.tensors;
    [this.queries, this.heads, this.keys, this.kvHeads, this.dim] = [queries, heads, keys, kvHeads, dim];
    this.plans = attentionPlans(backend, attrs.cuSeqlens, attrs.cuSeqlensK, farther);
    if ('bias' in attrs && attrs.bias === 'fire') this.fire = new FireTable(fireCall(inputs, attrs), backend, scratch);
  }

  /** struct Saved of flash.cuh. */
  get savedBytes(): number {
    return 4 * this.heads * (2 * this.queries + this.plans.rowBlocks);
  }

  /** Key heads that are worked on together, where each needs so many bytes of scratch. */
  private headsAtATime(each: number): number {
    return Math.min(this.kvHeads, Math.max(1, Math.floor(SCRATCH_BYTES / each)));
  }

  forward(args: AttentionArguments): void {
    const levels = this.gathering(this.backend.levels);
    if (levels) this.forwardByLevels(args, levels);
    else this.forwardInOne(args);
  }

  /** With block skipping in long documents: rows that look far are gathered. */
  private forwardByLevels(args: AttentionArguments, settings: LevelSettings): void {
    const { backend, heads, plans, queries, dim } = this;
    const { driver } = backend;
    const { rowBlocks, longest } = plans;
    const farBlocks = FAR_BLOCKS * driver.multiprocessors;
    const sizes = { queries, heads, dim, rowBlocks, longest, stretches: plans.stretches(), farBlocks };
    const levels = new FlashLevels(sizes, settings);
    const memory = backend.workspace(levels.bytes);
    driver.call('cuMemsetD8Async', memory + levels.zeros.at, 0, levels.zeros.bytes, driver.stream);
    for (let level = 0; level < levels.count; level++) {
      const variant = { ...this.variant, rows: level === 0 ? ('near' as const) : ('far' as const) };
      const plan = plans.queries(warpgroupsOf(FORWARD, variant));
      const all = plan.count * heads;
      // Blocks of far rows take one piece of work after another.
      const blocks = level === 0 ? all : Math.min(all, farBlocks);
      const part = this.sections(0, heads, heads, plan);
      this.launch(FORWARD, { ...args, ...levels.arguments(memory, level) }, plan, part, [], variant, blocks);
    }
  }

  private forwardInOne(args: AttentionArguments): void {
    const plan = this.plans.queries(this.warpgroups(FORWARD));
    this.launch(FORWARD, args, plan, this.sections(0, this.heads, this.heads, plan));
  }

  backward(args: AttentionArguments): void {
    if (this.servedInOne) this.backwardInOne(args);
    else this.backwardInTwo(args);
  }

  /** Whether one kernel makes the whole backward, and rows may be gathered. */
  private get servedInOne(): boolean {
    const { backend, dim, plans, farther, fire, bias } = this;
    return backend.hopper && dim <= 64 && plans.square && !farther && !fire && bias !== 'keys';
  }

  /** The settings by which rows that look far are gathered, where this call's are. */
  private gathering<Settings extends { from: number }>(settings: Settings | undefined): Settings | undefined {
    const gathers = this.skips && this.servedInOne && settings && this.plans.longest >= settings.from;
    return gathers ? settings : undefined;
  }

  private backwardInOne(args: AttentionArguments): void {
    const { backend, heads, kvHeads, plans } = this;
    const group = heads / kvHeads;
    const each = plans.rowBlocks * tileSumBytes(this.dim);
    const together = this.headsAtATime(each);
    const sums = this.scratch.allocate(each * together);
    // A counter of blocks; of each block's dV and dK the tile up to which they are added: see flash_turns.cuh.
    const progressBytes = (1 + 2 * heads * plans.rowBlocks) * 4;
    const progress = this.scratch.allocate(progressBytes);
    const plan = plans.queries(this.warpgroups(BACKWARD));
    const settings = this.gathering(backend.farRows);
    for (let first = 0; first < kvHeads; first += together) {
      const headCount = Math.min(together, kvHeads - first) * group;
      backend.driver.call('cuMemsetD8Async', progress, 0, progressBytes, backend.driver.stream);
      // Heads of a group add to the same sums: a section has all or none of them.
      const sectionHeads = group * this.together(headCount / group, SUM_SECTION_BYTES / each, plan, group);
      const part = { firstHead: first * group, headCount, sectionHeads };
      const near = settings ? this.backwardOfFarRows(args, part, sums, settings) : {};
      const variant = { ...this.variant, ...(settings && { rows: 'near' as const }) };
      this.launch(BACKWARD, { ...args, ...near }, plan, part, [pointer(sums), pointer(progress)], variant);
    }
  }

  /** With block skipping in long documents: what the blocks of near rows go on from. */
  private backwardOfFarRows(args: AttentionArguments, part: Part, sums: number, settings: FarSettings) {
    const { backend, heads, kvHeads, plans, queries, dim } = this;
    const { driver } = backend;
    const { rowBlocks, tiles } = plans;
    const stretches = plans.stretches();
    const far = new FarRows({ queries, heads, kvHeads, dim, rowBlocks, tiles, stretches: stretches.address }, settings);
    const memory = backend.workspace(far.bytes);
    driver.call('cuMemsetD8Async', memory + far.zeros.at, 0, far.zeros.bytes, driver.stream);
    const own = far.arguments(memory);
    const given = { ...args, ...own };
    const keys = plans.keys(1);
    const groups = Math.min(part.headCount * rowBlocks, driver.multiprocessors);
    this.launch(FAR_SORT, given, keys, part, [], this.variant, part.headCount * stretches.count);
    this.launch(FAR_QUERIES, given, keys, part, [], this.variant, groups);
    this.launch(FAR_KEYS, given, keys, part, [pointer(sums)], this.variant, groups);
    return own;
  }

  private backwardInTwo(args: AttentionArguments): void {
    const group = this.heads / this.kvHeads;
    const softmax = this.mechanism === 'softmax';
    const each = this.plans.tiles * TILE_ROWS * 8 * group;
    const together = softmax ? this.kvHeads : this.headsAtATime(each);
    const carries = this.scratch.allocate(softmax ? this.queries * this.heads * 8 : each * together);
    const queries = this.plans.queries(this.warpgroups(BACKWARD_QUERIES));
    const keys = this.plans.keys(this.warpgroups(BACKWARD_KEYS));
    for (let first = 0; first < this.kvHeads; first += together) {
      const count = Math.min(together, this.kvHeads - first);
      this.launch(
        BACKWARD_QUERIES,
        { ...args, carries },
        queries,
        this.sections(first * group, count * group, this.heads, queries),
      );
      this.launch(BACKWARD_KEYS, { ...args, carries }, keys, this.sections(first, count, this.kvHeads, keys));
    }
  }

  /** Blocks of the queries' backward, each of which leaves sums of FIRE's gradients. */
  get queryBlocks(): number {
    return this.plans.queries(this.warpgroups(BACKWARD_QUERIES)).count;
  }

  /** What is added to logits. Without a bias the kernels take a row's maximum before the scale, which must be positive then. */
  private get bias(): FlashVariant['bias'] {
    if (this.mechanism === 'stick-breaking') return 'none';
    if (this.fire) return 'fire';
    if ('bias' in this.attrs && this.attrs.bias === 'keys') return 'keys';
    return ('bias' in this.attrs && this.attrs.bias === 'alibi') || this.attrs.scale <= 0 ? 'alibi' : 'none';
  }

  private warpgroups(kernel: FlashKernel): number {
    return warpgroupsOf(kernel, this.variant);
  }

  /** Heads from `firstHead` on, of `all`, in sections. */
  private sections(firstHead: number, headCount: number, all: number, plan: Plan): Part {
    const headBytes = (this.keys * this.kvHeads * this.dim * 4) / all;
    return { firstHead, headCount, sectionHeads: this.together(headCount, SECTION_BYTES / headBytes, plan) };
  }

  /**
   * Heads of a section, or groups of `group` heads. With block skipping only some of a section's keys are in use at a time: the cache
   * has room for twice as many.
   */
  private together(heads: number, cached: number, { work, longest }: Plan, group = 1): number {
    const room = Math.floor(this.skips ? 2 * cached : cached);
    return headsOfSection(heads, room, { work: work * group, longest }, this.backend.driver.multiprocessors);
  }

  private get skips(): boolean {
    return this.mechanism === 'stick-breaking' && this.backend.blockSkipping;
  }

  private get variant(): FlashVariant {
    const { mechanism, bias, dim, farther } = this;
    return { mechanism, bias, dim, hopper: this.backend.hopper, farther };
  }

  /** @param blocks default: one for each of the plan's items and each head */
  private launch(
    kernel: FlashKernel,
    args: AttentionArguments,
    plan: Plan,
    part: Part,
    more: Argument[] = [],
    variant = this.variant,
    blocks = plan.count * part.headCount,
  ): void {
    const { backend } = this;
    const compiled = backend.function(kernel.file, kernel.name, flashMacros(kernel, variant));
    const shape = {
      grid: [blocks] as const,
      block: threadsOf(kernel, variant),
      shared: sharedBytes(kernel, variant, this.fire?.units),
    };
    backend.driver.launch(compiled, shape, [this.structure(args, plan, part), ...more]);
  }

  private structure(args: AttentionArguments, plan: Plan, part: Part): Argument {
    const { attrs, fire, plans } = this;
    const { skips: skip } = this;
    return ATTENTION.argument({
      ...ABSENT,
      ...args,
      ...part,
      items: plan.address,
      itemCount: plan.count,
      carryBase: plans.carryBase,
      rowBlocks: plans.rowBlocks,
      tokens: this.queries,
      heads: this.heads,
      kvHeads: this.kvHeads,
      attendCurrent: 'attendCurrent' in attrs && attrs.attendCurrent ? 1 : 0,
      window: 'window' in attrs ? attrs.window : 0,
      keyTokens: this.keys,
      skip: skip ? 1 : 0,
      scale: attrs.scale,
      exhausted: leastStick(skip),
      fireTable: fire?.table ?? 0,
      fireUnits: fire?.units ?? 0,
    });
  }
}
