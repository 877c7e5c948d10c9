/** The built page: its files, read once, with what a browser needs to know of them. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

export interface PageFile {
  body: Buffer;
  gzip: Buffer;
  type: string;
  etag: string;
  /** Its name changes with its content. */
  lasting: boolean;
}

/** dist/web/, from agent/ui/ as well as from dist/agent/ui/. */
function defaultDirectory(): string {
  const places = ['../../web/', '../../dist/web/'].map((up) => fileURLToPath(new URL(up, import.meta.url)));
  return (
    places.find((path) => existsSync(join(path, 'index.html')) && existsSync(join(path, 'assets'))) ??
    places[0] ??
    'web'
  );
}

/** By path; `/` is index.html. @throws Error when the page has not been built. */
export function readPage(directory: string = defaultDirectory()): Map<string, PageFile> {
  if (!existsSync(join(directory, 'index.html'))) {
    throw new Error(`the page is not built: there is no ${join(directory, 'index.html')}; run npm run setup`);
  }
  const files = new Map<string, PageFile>();
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    const type = TYPES[extname(entry.name)];
    if (!entry.isFile() || type === undefined) continue;
    const file = join(entry.parentPath, entry.name);
    const path = `/${relative(directory, file)}`;
    const body = readFileSync(file);
    const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
    files.set(path === '/index.html' ? '/' : path, {
      body,
      gzip: gzipSync(body, { level: 9 }),
      type,
      etag,
      lasting: path.startsWith('/assets/'),
    });
  }
  return files;
}
