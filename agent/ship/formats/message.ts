/** An alert in words, as chats show it. */
import type { Alert } from './alert.ts';
import type { Level } from '../../events/level.ts';

export interface Message {
  /** `Critical: ET MALWARE …`. */
  title: string;
  /** What a line of a few words says: which pod to which pod. */
  flow: string;
  /** Names and values, the most important first. */
  facts: { name: string; value: string }[];
}

const WORDS: Record<Level, string> = { critical: 'Critical', high: 'High', medium: 'Medium', low: 'Low' };

/** 24 bits of red, green and blue, as the page has them. */
export const COLOURS: Record<Level, number> = { critical: 0xb91c1c, high: 0xea580c, medium: 0xca8a04, low: 0x64748b };

export function toMessage(alert: Alert): Message {
  const { level, severity, message, source, destination, count, timestamp, last } = alert;
  const facts: [string, string][] = [
    ['From', source.text],
    ['To', destination.text],
    ['When', count > 1 ? `${seconds(timestamp)} to ${seconds(last)}` : seconds(timestamp)],
    ['How often', count > 1 ? `${count} alerts` : ''],
    ['Severity', `${WORDS[level]} (${severity} of 100)`],
    ['Rule', alert.signature],
    ['Class', alert.class],
    ['Tactic', [alert.tactic, ...alert.techniques].filter(Boolean).join(', ')],
    ['CVE', alert.cves.join(', ')],
    ['Resource', alert.resource],
    ['Node', [alert.cluster, alert.node].filter(Boolean).join(' / ')],
  ];
  return {
    title: `${WORDS[level]}: ${message}${count > 1 ? ` (×${count})` : ''}`,
    flow: `${source.text} → ${destination.text}`,
    facts: facts.filter(([, value]) => value !== '').map(([name, value]) => ({ name, value })),
  };
}

/** `2026-01-02 03:04:05 UTC`. */
function seconds(timestamp: string): string {
  return timestamp.replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d).*$/, '$1 $2 UTC');
}
