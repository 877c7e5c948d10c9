export declare function partsFor(options: { only?: string; engine?: string }): string[];
