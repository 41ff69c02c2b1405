/** The packages as a release sees them: their versions, their order, and what must be in place before they are published. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { globSync } from 'tinyglobby';

const changelog = 'CHANGELOG.md';
const source = 'packages/base/src/version.ts';
const places = (root) => globSync('packages/*/package.json', { cwd: root }).sort();

/** The manifests of all packages. */
export const manifestsOf = (root) => places(root).map((path) => JSON.parse(readFileSync(join(root, path), 'utf8')));

/** The file that packing makes of a package. */
export const tarballOf = (name, version) => `${name.replace('@', '').replace('/', '-')}-${version}.tgz`;

/** Each package after those of ours that it needs, so that whatever is published can be installed. */
export function dependenciesFirst(manifests) {
  const byName = new Map(manifests.map((manifest) => [manifest.name, manifest]));
  const ordered = new Set();
  const add = (manifest) => {
    for (const name of Object.keys(manifest.dependencies ?? {})) if (byName.has(name)) add(byName.get(name));
    ordered.add(manifest);
  };
  for (const manifest of manifests) add(manifest);
  return [...ordered];
}

/** Gives every package the version, with those of ours that it needs, and the changelog a heading for it. Changes nothing where something is amiss. */
export function prepare(root, version, { repository, date }) {
  if (!/^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/.test(version)) {
    throw new Error(`'${version}' is no version; expected one such as 0.2.0 or 0.2.0-beta.1.`);
  }
  const read = (path) => readFileSync(join(root, path), 'utf8');
  const [, notes] = /^## Unreleased\n([\s\S]*?)(?=^## |$(?![\s\S]))/m.exec(read(changelog)) ?? [];
  if (!notes?.trim()) throw new Error(`${changelog} has nothing under 'Unreleased'; say there what has changed.`);
  if (read(changelog).includes(`\n## ${version} `)) throw new Error(`${changelog} has ${version} already.`);
  if (repository !== undefined && !/^https:\/\/[^/]+\/.+/.test(repository)) {
    throw new Error(`--repository is '${repository}'; expected its address, https://…`);
  }
  const ours = new Set(manifestsOf(root).map(({ name }) => name));
  const heading = `## Unreleased\n\n## ${version} – ${date}\n`;
  const written = new Map([[changelog, read(changelog).replace('## Unreleased\n', heading)]]);
  written.set(source, read(source).replace(/VERSION = '[^']*'/, `VERSION = '${version}'`));
  for (const path of ['package.json', ...places(root)]) {
    const manifest = { ...JSON.parse(read(path)), version };
    for (const asked of [manifest.dependencies ?? {}, manifest.peerDependencies ?? {}])
      for (const name of Object.keys(asked)) if (ours.has(name)) asked[name] = version;
    if (repository !== undefined && path !== 'package.json') {
      const url = `git+${repository.replace(/(\.git)?\/?$/, '')}.git`;
      manifest.repository = { type: 'git', url, directory: path.replace('/package.json', '') };
    }
    written.set(path, `${JSON.stringify(manifest, null, 2)}\n`);
  }
  for (const [path, text] of written) writeFileSync(join(root, path), text);
}

/** What is not yet as a published version must be. */
export function faultsOf(root) {
  const manifests = manifestsOf(root);
  const { version } = manifests[0];
  const faults = [];
  for (const { name, version: other, dependencies = {}, peerDependencies = {} } of manifests) {
    if (other !== version) faults.push(`${name} has version ${other}, and ${manifests[0].name} ${version}`);
    for (const needed of manifests) {
      const asked = dependencies[needed.name] ?? peerDependencies[needed.name] ?? version;
      if (asked !== version) faults.push(`${name} asks for ${needed.name} ${asked}, which is ${version}`);
    }
  }
  // npm compares it with where the build says that it was made.
  const anonymous = manifests.filter(({ repository }) => !repository?.url).map(({ name }) => name);
  if (anonymous.length > 0)
    faults.push(`no repository is named by ${anonymous.join(', ')}; 'prepare' with --repository writes it`);
  const text = readFileSync(join(root, changelog), 'utf8');
  if (!text.includes(`\n## ${version} `)) faults.push(`${changelog} has no section ${version}`);
  return faults;
}
