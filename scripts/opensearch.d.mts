export function opensearchDirectory(version?: string): string;
/** Why it can't run here; undefined when it can. */
export function whyNoOpensearch(): string | undefined;
