/** What agents and the Alerts page ask of `dpi-agent respond serve`, in JSON. */
import * as z from 'zod';
import { PASSAGES } from './isolation.ts';

export const ISOLATIONS_PATH = '/v1/isolations';
export const MAX_MESSAGE_BYTES = 64 << 10;

const DAY_MILLIS = 86_400_000;
const name = z.string().regex(/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/);
const line = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^\P{Cc}*$/u);

const wish = {
  namespace: name,
  pod: name,
  allow: z.enum(PASSAGES).default('nothing'),
  forMillis: z
    .int()
    .min(60_000)
    .max(30 * DAY_MILLIS),
  reason: line(500).min(1),
  alert: line(128).optional(),
  dryRun: z.boolean().default(true),
};

/** Of a person. */
export const personsWish = z.strictObject({ ...wish, partly: z.boolean().default(false) });
/** Of an agent, whose policy of alerts has the entry. */
export const agentsWish = z.strictObject({ ...wish, alert: line(128), entry: line(63).min(1) });
export const releaseWish = z.strictObject({ namespace: name, pod: name, reason: line(500).default('') });

export type PersonsWish = z.infer<typeof personsWish>;
export type AgentsWish = z.infer<typeof agentsWish>;
