/**
 * A study's folder: `study.json` says which study it is; `arms/<name>-<hash>/` is an arm's own, with `result.json` once
 * it is done; `results/` holds the report. The hash is of the arm's settings, so that an arm whose configuration was
 * changed is run again beside the old one, and nothing is ever overwritten.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { explainSystemError, UserError } from '@stickbreaking/base';
import { makeDirectory, replaceFile } from '@stickbreaking/base/node';
import type { Environment } from './environment.js';
import type { Arm } from './study.js';

/** An arm's result with how it came about. */
export interface ArmRecord {
  id: string;
  settings: Record<string, unknown>;
  /** Time it took, interruptions not counted. */
  seconds: number;
  finished: string;
  environment: Environment;
  result: unknown;
}

export class StudyFolder {
  private constructor(
    readonly directory: string,
    private readonly kind: string,
  ) {}

  /**
   * Looks at the folder of a study, which need not exist yet; nothing is written before `create`.
   *
   * @throws UserError where it holds something else
   */
  static open(directory: string, kind: string): StudyFolder {
    const file = join(directory, 'study.json');
    const elsewhere = 'name another folder with output=FOLDER';
    if (existsSync(file)) {
      const found = readJson(file).study;
      if (found !== kind) throw new UserError(`${directory} holds a study '${found}', not '${kind}'; ${elsewhere}.`);
    } else if (existsSync(directory) && namesIn(directory).length > 0) {
      throw new UserError(
        `${directory} is in use by something else than a study (it has no study.json); ${elsewhere}.`,
      );
    }
    return new StudyFolder(directory, kind);
  }

  create(): void {
    makeDirectory(this.directory);
    const file = join(this.directory, 'study.json');
    if (!existsSync(file)) writeJson(file, { study: this.kind });
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

  /** Makes the arm's folder. */
  openArm(arm: Arm): string {
    return made(this.armDirectory(arm));
  }

  /** An arm's result, if it is done. */
  read(arm: Arm): ArmRecord | undefined {
    const file = join(this.armDirectory(arm), 'result.json');
    return existsSync(file) ? (readJson(file) as unknown as ArmRecord) : undefined;
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

export function readJson(file: string): Record<string, unknown> {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError) throw new UserError(`${file} is damaged: it is not valid JSON; remove it.`);
    throw explainSystemError(error, `cannot read ${file}`);
  }
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
