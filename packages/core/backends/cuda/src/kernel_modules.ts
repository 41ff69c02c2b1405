/** The kernels of the `.cu` files, each compiled for the GPU and loaded on first use. */
import { architecture, compileKernels } from './compiler.js';
import type { CudaDriver } from './driver.js';
import type { CudaFunction } from './launch.js';

export class KernelModules {
  private readonly functions = new Map<string, CudaFunction>();
  private readonly modules = new Map<string, number>();

  /** @param hopper whether kernels may use Hopper's own instructions */
  constructor(
    private readonly driver: CudaDriver,
    private readonly hopper: boolean,
  ) {}

  /** @param defines macros of the file, which is compiled apart for each set of them */
  function(file: string, name: string, defines: readonly string[]): CudaFunction {
    const unit = [file, ...defines].join('|');
    const key = `${unit}:${name}`;
    let found = this.functions.get(key);
    if (!found) {
      found = this.driver.getFunction(this.module(unit, file, defines), name);
      this.functions.set(key, found);
    }
    return found;
  }

  private module(unit: string, file: string, defines: readonly string[]): number {
    let module = this.modules.get(unit);
    if (module === undefined) {
      const { driver, hopper } = this;
      module = driver.loadModule(compileKernels(file, architecture(driver.computeCapability, hopper), defines));
      this.modules.set(unit, module);
    }
    return module;
  }
}
