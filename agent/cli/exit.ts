/** Exit codes of all commands, and the error that ends one. */

export const EXIT = {
  ok: 0,
  /** It ran, and something of what it was asked for could not be done. */
  failed: 1,
  /** It did not start: wrong arguments, configuration or input. */
  usage: 2,
  /** It ran, and found nothing worse than warnings (`doctor`). */
  warnings: 3,
} as const;

/** Ends a command with a message for the user, without a stack trace. */
export class CommandError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.usage) {
    super(message);
    this.name = 'CommandError';
    this.exitCode = exitCode;
  }
}

/**
 * On an error of standard output: `dpi-agent … | head` ends when head does. A command with something to clean up
 * listens itself, in place of this.
 */
export function endWithReader(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  throw error;
}
