/**
 * Copies into the Helm chart what it has in common with the kustomization beside it: Helm reads nothing outside of a
 * chart's folder.
 *   node dist/scripts/chart.js
 * test/deploy/helm.test.ts fails when a copy is stale.
 */
import { copyFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** From deploy/ to the folder `files` of the chart. */
export const COPIES: readonly (readonly [from: string, to: string])[] = [
  ['crds/projectcalico.org/deeppacketinspections.yaml', 'crds/deeppacketinspections.projectcalico.org.yaml'],
  ['crds/crd.projectcalico.org/deeppacketinspections.yaml', 'crds/deeppacketinspections.crd.projectcalico.org.yaml'],
  ['crds/operator.tigera.io/intrusiondetections.yaml', 'crds/intrusiondetections.operator.tigera.io.yaml'],
  ['crds/dpi-agent.io/deeppacketinspectionnodes.yaml', 'crds/deeppacketinspectionnodes.dpi-agent.io.yaml'],
  ['prometheus/dpi-agent.rules.yaml', 'dpi-agent.rules.yaml'],
  ['grafana/dpi-agent.json', 'dpi-agent.json'],
];

const self = fileURLToPath(import.meta.url);
if (process.argv[1] !== undefined && resolve(process.argv[1]) === self) {
  // From dist/scripts/.
  const deploy = join(self, '../../../deploy');
  for (const [from, to] of COPIES) copyFileSync(join(deploy, from), join(deploy, 'helm/dpi-agent/files', to));
}
