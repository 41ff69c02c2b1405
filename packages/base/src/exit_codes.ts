/** How a command ends, so that a script can tell what to do next. A signal ends it with 128 + its number, as shells have it. */
export const EXIT = {
  done: 0,
  /** The input, the surroundings or the run itself is at fault; the message says what. */
  mistake: 1,
  /** The command line is wrong: an option that is not known, a value it cannot have. */
  usage: 2,
  /** A plan has needs that are not met. */
  unmet: 3,
  /** What is to be gone on with is of another configuration, or not as it was saved. */
  refused: 4,
  /** A fault of the program. */
  internal: 70,
  /** Stopped before the end, by a time limit or with work left: the same command goes on. */
  unfinished: 75,
} as const;
