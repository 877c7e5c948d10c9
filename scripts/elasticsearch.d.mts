export function elasticsearchDirectory(): string;
export function isElasticsearchThere(): boolean;
export function whyNoElasticsearchProgram(): string | undefined;
export function javaHome(): string | undefined;
export function fetchElasticsearch(): void;
