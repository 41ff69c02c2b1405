/**
 * Finds the CUDA libraries of the machine: from a toolkit, the loader's cache, or the wheels of Python packages.
 * Nothing is installed or downloaded; if a library is not found, the message names it and the places that were tried.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { homeDirectory } from '@stickbreaking/base/node';
import koffi, { type LibraryHandle } from 'koffi';
import { CudaError } from './errors.js';

/** Folders of Python environments that may hold wheels named `nvidia-*`. */
function sitePackages(): string[] {
  const roots = [process.env.VIRTUAL_ENV, process.env.CONDA_PREFIX, '/usr', '/usr/local', '/opt/conda'];
  const home = homeDirectory();
  if (home !== undefined) roots.push(join(home, '.local'));
  for (const folder of (process.env.PATH ?? '').split(':'))
    if (existsSync(join(folder, 'python3'))) roots.push(join(folder, '..'));
  const found = new Set<string>();
  for (const root of roots) {
    if (!root) continue;
    for (const name of list(join(root, 'lib')).filter((n) => n.startsWith('python')))
      for (const packages of ['site-packages', 'dist-packages']) found.add(join(root, 'lib', name, packages));
  }
  return [...found].filter((path) => existsSync(join(path, 'nvidia')));
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Every folder worth a look, the most deliberate choice first. */
export function libraryFolders(): string[] {
  const folders: string[] = [];
  for (const root of [process.env.CUDA_HOME, process.env.CUDA_PATH])
    if (root) folders.push(join(root, 'lib64'), join(root, 'lib'), join(root, 'targets/x86_64-linux/lib'));
  folders.push(...(process.env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean));
  const toolkits = list('/usr/local').filter((name) => name.startsWith('cuda'));
  for (const name of toolkits.sort().reverse()) folders.push(`/usr/local/${name}/lib64`);
  folders.push('/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/local/nvidia/lib64');
  for (const packages of sitePackages())
    for (const name of list(join(packages, 'nvidia'))) folders.push(join(packages, 'nvidia', name, 'lib'));
  return [...new Set(folders)];
}

export interface LoadedLibrary {
  handle: LibraryHandle;
  path: string;
}

/**
 * Loads a library by the start of its file name, e.g. `libnvrtc`.
 * @throws CudaError naming the library and the folders tried.
 */
export function loadLibrary(name: string, alsoCalled: readonly string[] = []): LoadedLibrary {
  const folders = libraryFolders();
  const failures: string[] = [];
  for (const folder of folders) {
    const versions = list(folder).filter(
      (file) => file === `${name}.so` || /^\.so\.[\d.]+$/.test(file.slice(name.length)),
    );
    for (const file of versions.filter((f) => f.startsWith(name)).sort(newestFirst)) {
      const opened = tryLoad(join(folder, file), failures);
      if (opened) return opened;
    }
  }
  for (const soname of [`${name}.so`, ...alsoCalled]) {
    const opened = tryLoad(soname, []);
    if (opened) return opened;
  }
  const why = failures.length > 0 ? ` (${failures[0]})` : '';
  throw new CudaError(
    `CUDA library ${name}.so not found${why}: tried the loader's own paths and ${folders.join(', ')}; set CUDA_HOME to the toolkit, or install it (pip wheels count)`,
  );
}

function newestFirst(a: string, b: string): number {
  return b.localeCompare(a, 'en', { numeric: true });
}

function tryLoad(path: string, failures: string[]): LoadedLibrary | undefined {
  try {
    return { handle: koffi.load(path), path };
  } catch (error) {
    failures.push((error as Error).message);
    return undefined;
  }
}
