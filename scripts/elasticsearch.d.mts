export function elasticsearchDirectory(version?: string): string;
export function elasticsearchMajor(version?: string): number;
export function isElasticsearchThere(version?: string): boolean;
export function elasticsearchJava(version?: string): string | undefined;
export function whyNoElasticsearchProgram(version?: string): string | undefined;
export interface JavaVersions {
  least: number;
  most: number;
}
export function nameOf(versions: JavaVersions): string;
export function javaHome(versions?: JavaVersions): string | undefined;
export function fetchElasticsearch(version?: string): void;
