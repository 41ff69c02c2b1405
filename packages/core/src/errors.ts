/** A mistake in what the user gave: the commands print its message alone, without a stack trace, and exit with 1. */
export class UserError extends Error {
  override readonly name = 'UserError';
}
