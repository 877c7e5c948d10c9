/** Alerts and endpoints between the engine and the journal. A test names what it is about; the rest is the same. */
import type { AttributedAlert } from '../../agent/alerts/attributed.ts';
import type { Endpoint } from '../../agent/endpoints/endpoint.ts';
import type { Alert } from '../../agent/engine/alert.ts';

export function engineAlert(changes: Partial<Alert> = {}): Alert {
  return {
    timeMicros: 1_700_000_000_000_000,
    vlan: 1,
    gid: 1,
    sid: 1,
    rev: 1,
    message: 'm',
    classification: '',
    priority: 1,
    protocol: 'TCP',
    source: { ip: '10.0.0.1', port: 1000 },
    destination: { ip: '10.0.0.2', port: 80 },
    ...changes,
  };
}

export function attributedAlert(alert: Partial<Alert> = {}, changes: Partial<AttributedAlert> = {}): AttributedAlert {
  return {
    alert: engineAlert(alert),
    position: { generation: 'g', offset: 0 },
    mergedPositions: [],
    resource: 'shop/dpi',
    seenAt: [],
    engine: { name: 'snort', version: '3' },
    node: 'node',
    ...changes,
  };
}

export function endpointOf(name: string, changes: Partial<Endpoint> = {}): Endpoint {
  return {
    id: name,
    namespace: 'default',
    name,
    nameAggr: '-',
    interface: `cali-${name}`,
    labels: {},
    addresses: [],
    resources: ['default/dpi'],
    ...changes,
  };
}
