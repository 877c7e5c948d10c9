/** Severities in words, as the page and messages have them. */

export type Level = 'critical' | 'high' | 'medium' | 'low';

/** Lowest severity of each level; `severity` is 100 for priority 1 and 20 less for each further one, 50 without one. */
export const LEVEL_FROM: Record<Level, number> = { critical: 90, high: 70, medium: 45, low: 0 };

export function levelOf(severity: number): Level {
  if (severity >= LEVEL_FROM.critical) return 'critical';
  if (severity >= LEVEL_FROM.high) return 'high';
  return severity >= LEVEL_FROM.medium ? 'medium' : 'low';
}
