/** The program, once built. */
export function collectorProgram(): string;
