/** What versions of Suricata can of what rules ask for. */
export interface Abilities {
  /** SIP over TCP, since Suricata 8: https://docs.suricata.io/en/suricata-8.0.0/upgrade.html */
  sipOverTcp: boolean;
}

/** @param version As Suricata prints it; absent: what all versions can. */
export function abilitiesOf(version = '7'): Abilities {
  return { sipOverTcp: Number.parseInt(version, 10) >= 8 };
}
