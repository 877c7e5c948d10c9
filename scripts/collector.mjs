#!/usr/bin/env node
/**
 * Builds a real OpenTelemetry Collector for tests into a cache outside the work tree, and prints the program:
 *   node scripts/collector.mjs
 * It takes OTLP, and hands on what it understood by OTLP over HTTP. No distribution packages it, but its Go modules are
 * public. Plain JavaScript with Node's own modules. The test that needs it says so, and is skipped, where it was not
 * built.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cached } from './maven.mjs';

const VERSION = 'v0.165.0';
/** That goes with it, of the parts that are stable. */
const STABLE = 'v1.71.0';
const COLLECTOR = 'go.opentelemetry.io/collector';

const MAIN = `package main

import (
	"log"

	"${COLLECTOR}/component"
	"${COLLECTOR}/confmap"
	"${COLLECTOR}/confmap/provider/fileprovider"
	"${COLLECTOR}/exporter"
	"${COLLECTOR}/exporter/otlphttpexporter"
	"${COLLECTOR}/otelcol"
	"${COLLECTOR}/receiver"
	"${COLLECTOR}/receiver/otlpreceiver"
	"${COLLECTOR}/service/telemetry/otelconftelemetry"
)

func factories() (otelcol.Factories, error) {
	receivers, err := otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
	if err != nil {
		return otelcol.Factories{}, err
	}
	exporters, err := otelcol.MakeFactoryMap[exporter.Factory](otlphttpexporter.NewFactory())
	return otelcol.Factories{Receivers: receivers, Exporters: exporters, Telemetry: otelconftelemetry.NewFactory()}, err
}

func main() {
	command := otelcol.NewCommand(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector", Version: "${VERSION}"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{
			ResolverSettings: confmap.ResolverSettings{
				DefaultScheme:     "file",
				ProviderFactories: []confmap.ProviderFactory{fileprovider.NewFactory()},
			},
		},
	})
	if err := command.Execute(); err != nil {
		log.Fatal(err)
	}
}
`;

/** The program, once built. */
export function collectorProgram() {
  return cached(`collector-${VERSION}`);
}

/** @throws Error with what Go said. */
function buildCollector() {
  const program = collectorProgram();
  mkdirSync(join(program, '..'), { recursive: true });
  const work = mkdtempSync(`${program}-`);
  try {
    writeFileSync(join(work, 'go.mod'), goModule());
    writeFileSync(join(work, 'main.go'), MAIN);
    // What debuggers read is a sixth of the compiler's work, and is not linked.
    go(work, 'build', '-mod=mod', '-gcflags=all=-dwarf=false', '-ldflags', '-s -w', '-o', 'collector', '.');
    renameSync(join(work, 'collector'), program);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function goModule() {
  const newest = ['otelcol', 'exporter/otlphttpexporter', 'receiver/otlpreceiver', 'service'];
  const stable = ['component', 'confmap', 'confmap/provider/fileprovider', 'exporter', 'receiver'];
  return [
    'module collector',
    'go 1.25.0',
    ...newest.map((name) => `require ${COLLECTOR}/${name} ${VERSION}`),
    ...stable.map((name) => `require ${COLLECTOR}/${name} ${STABLE}`),
    '',
  ].join('\n');
}

function go(directory, ...args) {
  const { status, error, stderr } = spawnSync('go', args, {
    cwd: directory,
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    env: { ...process.env, GOFLAGS: '-buildvcs=false', CGO_ENABLED: '0' },
  });
  if (status === 0) return;
  throw new Error(`go ${args.join(' ')} failed${error ? `: ${error.message}` : ''}\n${(stderr ?? '').slice(-4000)}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    if (!existsSync(collectorProgram())) buildCollector();
    process.stdout.write(`${collectorProgram()}\n`);
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
