/**
 * A study's folder: `study.json` says which study it is; `arms/<name>-<hash>/` is an arm's own, with `result.json` once
 * it is done; `results/` holds the report. The hash is of the arm's settings, so that an arm whose configuration was
 * changed is run again beside the old one, and nothing is ever overwritten.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { explainSystemError, shown, UserError } from '@stickbreaking/base';
import { checkDirectory, isLeftover, makeDirectory, readWhole, replaceFile } from '@stickbreaking/base/node';
import { z } from 'zod';
import { EnvironmentSchema } from './environment.js';
import type { Arm, Study } from './study.js';

/** An arm's result with how it came about. */
const ArmRecordSchema = z.object({
  id: z.string(),
  settings: z.record(z.string(), z.unknown()),
  /** Time it took, interruptions not counted. */
  seconds: z.number(),
  finished: z.iso.datetime(),
  environment: EnvironmentSchema,
  result: z.unknown(),
});

export type ArmRecord = z.infer<typeof ArmRecordSchema>;

const StudyFileSchema = z.object({ study: z.string() });

/** What came of taking results from another folder. */
export interface Taken {
  /** Ids of arms whose results were taken. */
  taken: string[];
  /** Arms that are done there under the same name with other settings, and the first key that differs. */
  unlike: { id: string; key: string }[];
}

export class StudyFolder {
  private constructor(
    readonly directory: string,
    private readonly study: Pick<Study, 'kind' | 'result'>,
  ) {}

  /**
   * Looks at the folder of a study, which need not exist yet; nothing is written before `create`.
   *
   * @throws UserError where it holds something else
   */
  static open(directory: string, study: Pick<Study, 'kind' | 'result'>): StudyFolder {
    checkDirectory(directory);
    const { kind } = study;
    const file = join(directory, 'study.json');
    const elsewhere = 'name another folder with output=FOLDER';
    if (existsSync(file)) {
      const remedy = `write {"study":"${kind}"} into it if this is such a study's folder, or ${elsewhere}`;
      const { study: found } = readJson(file, StudyFileSchema, remedy);
      if (found !== kind)
        throw new UserError(`${directory} holds a study '${shown(found)}', not '${kind}'; ${elsewhere}.`);
    } else if (existsSync(directory) && !namesIn(directory).every(isLeftover)) {
      throw new UserError(
        `${directory} is in use by something else than a study (it has no study.json); ${elsewhere}.`,
      );
    }
    return new StudyFolder(directory, study);
  }

  create(): void {
    makeDirectory(this.directory);
    const file = join(this.directory, 'study.json');
    if (!existsSync(file)) writeJson(file, { study: this.study.kind });
  }

  get results(): string {
    return made(join(this.directory, 'results'));
  }

  get shared(): string {
    return made(join(this.directory, 'shared'));
  }

  armDirectory({ id, settings }: Arm): string {
    const hash = createHash('sha256').update(canonical(settings)).digest('hex').slice(0, 8);
    const readable = id.replace(/[^\p{L}\p{N}+.-]+/gu, '-').replace(/^-+|-+$/g, '');
    return join(this.directory, 'arms', `${readable}-${hash}`);
  }

  /** The folder of the arm that a path lies in, if it is one of this study. */
  armOf(path: string): string | undefined {
    const arms = join(this.directory, 'arms');
    const [name, ...below] = relative(arms, path).split(sep);
    return name && name !== '..' && below.length > 0 ? join(arms, name) : undefined;
  }

  /** Makes the arm's folder. */
  openArm(arm: Arm): string {
    return made(this.armDirectory(arm));
  }

  /** An arm's result, if it is done. @throws UserError where its file is damaged or another arm's */
  read(arm: Arm): ArmRecord | undefined {
    const file = join(this.armDirectory(arm), 'result.json');
    if (!existsSync(file)) return undefined;
    const remedy = 'remove it, and the arm is run again';
    const record = readJson(file, ArmRecordSchema.extend({ result: this.study.result }), remedy);
    if (canonical(record.settings) !== canonical(arm.settings)) {
      throw new UserError(`${file} is of another arm ('${shown(record.id)}') than its folder; ${remedy}.`);
    }
    return record;
  }

  /** Takes results of another machine's folder of this study, of arms that have none here. */
  takeFrom(directory: string, arms: readonly Arm[]): Taken {
    if (!existsSync(join(directory, 'study.json'))) {
      throw new UserError(`${directory} has no study.json: it is no study's folder; name one with --from.`);
    }
    const other = StudyFolder.open(directory, this.study);
    const missing = arms.filter((arm) => !this.read(arm));
    const taken = missing.flatMap((arm) => {
      const record = other.read(arm);
      if (!record) return [];
      this.openArm(arm);
      this.write(arm, record);
      return [arm.id];
    });
    const others = other.records();
    const unlike = missing.flatMap(({ id, settings }) => {
      const there = taken.includes(id) ? undefined : others.find((record) => record.id === id);
      return there ? [{ id, key: firstDifference(settings, there.settings) }] : [];
    });
    return { taken, unlike };
  }

  /** Every arm that is done in the folder, whatever its settings. */
  private records(): Pick<ArmRecord, 'id' | 'settings'>[] {
    const arms = join(this.directory, 'arms');
    const files = existsSync(arms) ? namesIn(arms).map((name) => join(arms, name, 'result.json')) : [];
    return files.filter((file) => existsSync(file)).map((file) => readJson(file, ArmRecordSchema, 'remove it'));
  }

  write(arm: Arm, record: ArmRecord): void {
    writeJson(join(this.armDirectory(arm), 'result.json'), record);
  }
}

/** JSON with sorted keys, so that equal settings are equal text. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner) =>
    inner && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

/** The path of the first key in which two values differ, such as `text.tokens`; they do differ. */
function firstDifference(one: unknown, other: unknown, path: readonly string[] = []): string {
  const isTable = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isTable(one) || !isTable(other)) return path.join('.');
  const [a, b] = [one, other] as [Record<string, unknown>, Record<string, unknown>];
  const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])];
  const key = keys.find((key) => canonical(a[key]) !== canonical(b[key]))!;
  return firstDifference(a[key], b[key], [...path, key]);
}

/** @throws UserError that names the file and ends with what to do */
function readJson<Schema extends z.ZodType>(file: string, schema: Schema, remedy: string): z.output<Schema> {
  let json: unknown;
  try {
    json = JSON.parse(readWhole(file).toString());
  } catch (error) {
    if (error instanceof SyntaxError) throw new UserError(`${file} is damaged: it is not valid JSON; ${remedy}.`);
    throw error;
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const { path, message } = result.error.issues[0]!;
  const where = path.length > 0 ? `, key '${shown(path.join('.'))}'` : '';
  throw new UserError(`${file} is damaged${where}: ${message}; ${remedy}.`);
}

export function writeJson(file: string, value: unknown): void {
  replaceFile(file, `${JSON.stringify(value, null, 1)}\n`);
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    throw explainSystemError(error, `cannot read ${directory}`);
  }
}

function made(directory: string): string {
  makeDirectory(directory);
  return directory;
}
