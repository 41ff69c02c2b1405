/** One checkpoint at a time is open to be looked into, and one question at a time is answered. */

/** What looks at where a checkpoint's heads look: `AttentionLooker` of `@stickbreaking/eval` is one. */
export interface Looker {
  look(text: string, options: { layer?: number }): Promise<unknown>;
  dispose(): void;
}

export class Looking {
  private open: { checkpoint: string; looker: Looker } | undefined;
  private before: Promise<unknown> = Promise.resolve();

  constructor(private readonly opener: (checkpoint: string) => Promise<Looker>) {}

  /** @throws what opening or looking throws */
  look(checkpoint: string, text: string, layer: number): Promise<unknown> {
    const answer = this.before.then(async () => {
      if (this.open?.checkpoint !== checkpoint) {
        this.open?.looker.dispose();
        this.open = undefined;
        this.open = { checkpoint, looker: await this.opener(checkpoint) };
      }
      return await this.open.looker.look(text, { layer });
    });
    this.before = answer.catch(() => {});
    return answer;
  }
}
