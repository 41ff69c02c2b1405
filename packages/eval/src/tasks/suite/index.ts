/** The tasks and groups that go by name. */
import type { UserError } from '@stickbreaking/base';
import type { GroupDefinition, TaskDefinition } from '../definition.js';
import { arcChallenge, arcEasy } from './arc.js';
import { gsm8k, gsm8kCot } from './gsm8k.js';
import { hellaswag } from './hellaswag.js';
import { minervaGroup, minervaTasks } from './minerva_math.js';
import { mmluGroups, mmluTasks } from './mmlu.js';
import { openbookqa } from './openbookqa.js';
import { pile10k } from './pile_10k.js';
import { piqa } from './piqa.js';
import { race } from './race.js';
import { defaultRuler, type RulerOptions, rulerGroup, rulerSuite } from './ruler.js';
import { sciq } from './sciq.js';
import { wikitext } from './wikitext.js';
import { winogrande } from './winogrande.js';

/** The releases of lm-evaluation-harness that can be imitated: that of the stick-breaking paper's time, and the newest. */
export const harnesses = ['0.4.4', '0.4.13'] as const;
/** One of `harnesses`. */
export type Harness = (typeof harnesses)[number];

/** Tasks and groups by name. */
export interface Suite {
  tasks: ReadonlyMap<string, TaskDefinition>;
  groups: ReadonlyMap<string, GroupDefinition>;
  /** Names of a folder's task files that cannot be used, with the reason. */
  refused?: ReadonlyMap<string, UserError>;
}

/** What the suite leaves to choose. */
export interface SuiteOptions {
  harness: Harness;
  /** MATH: answers that are the same text are right, also where they cannot be read. Default false. */
  equalStrings?: boolean;
  ruler?: RulerOptions;
}

/** The suite as a release of the harness has it. */
export function suiteOf({ harness, equalStrings = false, ruler = defaultRuler }: SuiteOptions): Suite {
  const tasks: TaskDefinition[] = [
    arcChallenge,
    arcEasy,
    hellaswag,
    openbookqa,
    piqa,
    race(harness === '0.4.4' ? 2 : 3),
    sciq,
    winogrande,
    wikitext,
    ...mmluTasks,
    gsm8k,
    gsm8kCot,
    ...minervaTasks({ version: harness === '0.4.4' ? 1 : 3, equalStrings }),
    pile10k,
    ...rulerSuite(ruler),
  ];
  return {
    tasks: new Map(tasks.map((task) => [task.name, task])),
    groups: new Map([...mmluGroups, minervaGroup, rulerGroup(ruler), paper].map((group) => [group.name, group])),
  };
}

/** The tasks of the paper's tables 2 to 4. */
const paper: GroupDefinition = {
  name: 'stickbreaking_paper',
  members: [
    'arc_challenge',
    'arc_easy',
    'hellaswag',
    'openbookqa',
    'piqa',
    'race',
    'sciq',
    'winogrande',
    'wikitext',
    'mmlu',
    'gsm8k',
    'gsm8k_cot',
  ],
};
