/** What tests read of Grafana's dashboard. */

export interface Dashboard {
  panels: {
    id: number;
    type: string;
    title: string;
    description?: string;
    gridPos: { x: number; y: number; w: number; h: number };
    targets?: { expr: string }[];
  }[];
  templating: { list: { name: string }[] };
}

export interface Query {
  panel: string;
  expr: string;
}

/** All of its queries, as they are written. */
export function queriesOf({ panels }: Dashboard): Query[] {
  return panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ panel: title, expr })));
}

/** As Grafana asks it with its variables at "All". */
export function filledIn(expr: string, rateInterval: string): string {
  return expr.replaceAll('$__rate_interval', rateInterval).replaceAll(/\$(node|namespace)\b/g, '.*');
}
