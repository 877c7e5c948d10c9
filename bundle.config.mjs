/**
 * dist/bundle/: what dist/agent/ and its libraries are, in few files, which Node reads in half the time. Each command
 * is still loaded when it is asked for.
 */
import { defineConfig } from 'vite';

export default defineConfig({
  root: import.meta.dirname,
  publicDir: false,
  build: {
    ssr: true,
    outDir: 'dist/bundle',
    target: 'node20',
    minify: false,
    reportCompressedSize: false,
    rolldownOptions: {
      // The second one is started as a process of its own, by its name (agent/capture/child.ts).
      input: { cli: 'dist/agent/cli/main.js', main: 'dist/agent/capture/main.js' },
      output: { entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js' },
    },
  },
  // They read files of their own: a native part, and WebAssembly.
  ssr: { noExternal: true, external: ['pcap', '@platformatic/kafka'] },
});
