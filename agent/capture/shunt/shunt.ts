export const SHUNT_PROTOCOLS = ['tls', 'quic', 'ssh', 'wireguard', 'esp'] as const;
export interface ShuntSettings {
  firstBytes: number;
  flows: number;
}
export interface Shunt {
  start: number;
  captured: number;
  length: number;
  protocol: number;
  bytes: number;
  look(
    bytes: Buffer,
    start: number,
    ip: number,
    captured: number,
    length: number,
    vlan: number,
    seconds: number,
  ): 'forward' | 'trimmed' | 'shunted';
  forget(vlan: number): void;
}
export function createShunt(_settings: ShuntSettings): Shunt | undefined {
  return undefined;
}
