/** What a probe may take; those that `check` has too have limits of their own. */
export const PROBE_MILLIS = 10_000;

export const REMEDY_SLOW = 'look at the network and the load on the way there, and run doctor again';
