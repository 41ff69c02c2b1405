/** The arms, and their shares of right answers, as the report names them. */
import type { MqrarConfig } from './config.js';
import type { MqrarResult } from './run.js';

/** What has been run, by its id. */
export type Results = ReadonlyMap<string, MqrarResult>;

/** The arms that the findings are about, by id. */
export const ids = { stickBreaking: 'stick-breaking', rope: 'softmax+RoPE' } as const;

export const nameOf = ({ arms }: MqrarConfig, id: string) => arms.find((arm) => arm.id === id)!.name;

/** Rounded down, so that what has not reached the threshold does not look as if it had. */
export const percent = (share: number) => `${(Math.floor(1000 * share + 1e-9) / 10).toFixed(1)} %`;
