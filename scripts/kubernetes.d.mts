export function kubernetesDirectory(): string;
export function missingPrograms(programs?: string[]): string[];
export function whyNoKubernetes(programs?: string[]): string | undefined;
export function buildKubernetes(programs?: string[]): string;
export const CONTROL_PLANE: string[];
export const CLUSTER: string[];
export const HELM: string[];
