// Experts that nobody chooses do not learn: it is said when it begins, and as long as it stays so now and then.
import type { StepRouting } from './routing.js';

/** A notice comes at most once in so many steps. */
const NOTICE_STEPS = 1000;

export class IdleExperts {
  private nextNotice = 0;

  /** What is to be said of a step's routing, if anything. */
  noticeOf(step: number, { metrics, counts }: StepRouting): string | undefined {
    if (metrics.idleExperts === 0 || step < this.nextNotice) return undefined;
    this.nextNotice = step + NOTICE_STEPS;
    const idle = counts.map((own) => own.filter((count) => count === 0).length);
    const most = Math.max(...idle);
    return (
      `step ${step}: no token chose ${metrics.idleExperts} of ${counts.flat().length} experts, most of them in layer ` +
      `${idle.indexOf(most)} (${most} of ${counts[0]!.length}), and the busiest has ${metrics.busiest.toFixed(1)} times its even ` +
      'share; a larger model.experts.balance spreads them'
    );
  }
}
