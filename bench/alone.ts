/** The engine without the agent, with the configuration that the agent's own driver writes. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { Alert } from '../agent/engine/alert.ts';
import type { EngineName } from '../agent/engine/engine.ts';
import { createSnortDriver } from '../agent/engine/snort/snort.ts';
import { createSuricataDriver } from '../agent/engine/suricata/suricata.ts';
import { findSets, loadSets, stageSets } from '../agent/rulesets/sets.ts';
import type { Workspace } from '../test/support/agent.ts';
import type { Setting } from './bench.ts';

export const RULE_SETS = ['kubernetes'];
/** Of an interface's packet ring, for the agent and for the engine alone: no ring shall be the reason for a drop. */
export const RING_MEGABYTES = 64;

export interface Alone {
  binary: string;
  arguments: string[];
  /** The alerts written so far, in order. */
  alerts(): Alert[];
}

/** The rules that the agent has with `RULE_SETS` and these paths. */
async function writeRules(engine: EngineName, paths: string[], directory: string): Promise<string[]> {
  const sets = await findSets({ rulesDirectory: directory, paths, engine });
  const used = new Set([...RULE_SETS, 'custom']);
  const { index } = await loadSets(
    [...sets.values()].filter(({ name }) => used.has(name)),
    engine,
  );
  return stageSets(index, used).map(({ name, text }) => {
    const path = join(directory, name);
    writeFileSync(path, text);
    return path;
  });
}

/** `source`: a capture file, or an interface that the engine itself captures on by AF_PACKET. */
export async function prepareAlone(
  { engine, rules }: Setting,
  workspace: Workspace,
  name: string,
  source: { file: string } | { interface: string },
): Promise<Alone> {
  const directory = join(workspace.directory, name);
  const configDirectory = join(directory, 'config');
  const outputDirectory = join(directory, 'output');
  mkdirSync(configDirectory, { recursive: true });
  mkdirSync(outputDirectory);
  const fifo = join(directory, 'packets.fifo');
  const overridesFile = join(configDirectory, 'capture.yaml');
  const live = 'interface' in source;
  const overridden = live && engine.name === 'suricata';
  if (overridden) writeFileSync(overridesFile, suricataCapture(source.interface));
  const driver =
    engine.name === 'snort'
      ? createSnortDriver({ searchMethod: 'auto', arguments: [] })
      : createSuricataDriver({ arguments: [] });
  const command = await driver.prepare(engine, {
    // As the agent replays; and alone, Snort takes packets in batches also when it captures.
    mode: 'replay',
    fifo,
    configDirectory,
    outputDirectory,
    rulesDirectory: configDirectory,
    policies: [],
    ...(overridden ? { overridesFile } : {}),
    ruleFiles: await writeRules(engine.name, [workspace.rules, ...rules], configDirectory),
    output: 'json',
  });
  const at = command.arguments.indexOf(fifo);
  if (command.arguments[at - 1] !== '-r') throw new Error('the driver no longer gives the FIFO by -r');
  const input = live ? captureArguments(engine.name, source.interface) : ['-r', source.file];
  return {
    binary: engine.binary,
    arguments: command.arguments
      .toSpliced(at - 1, 2, ...input)
      // Only so does Suricata use TPACKET_V3; with one thread it is the same. In other rings it truncates frames of 60
      // KB.
      .map((word) => (live && word === 'single' ? 'workers' : word)),
    alerts() {
      const decoder = command.createDecoder();
      const files = readdirSync(outputDirectory)
        .filter((file) => file.startsWith(command.alertFile))
        .map((file) => join(outputDirectory, file))
        .sort((a, b) => statSync(a).mtimeMs - statSync(b).mtimeMs);
      return [...files.flatMap((file) => decoder.push(readFileSync(file))), ...decoder.end()].flatMap((item) =>
        item.kind === 'alert' ? [item.alert] : [],
      );
    },
  };
}

function captureArguments(engine: 'snort' | 'suricata', device: string): string[] {
  return engine === 'snort'
    ? ['-i', device, '--daq', 'afpacket', '--daq-var', `buffer_size_mb=${RING_MEGABYTES}`]
    : [`--af-packet=${device}`];
}

/** Blocks that a frame of 64 KB fits into; one thread, as with a file. */
function suricataCapture(device: string): string {
  const block = 1 << 20;
  const ring = {
    interface: device,
    threads: 1,
    'cluster-id': 99,
    'cluster-type': 'cluster_flow',
    'use-mmap': 'yes',
    'tpacket-v3': 'yes',
    'block-size': block,
    // In frames of the interface's MTU; the blocks follow from it.
    'ring-size': 4096,
    'checksum-checks': 'no',
    'disable-promisc': 'yes',
  };
  return `%YAML 1.1\n---\n${stringify({ 'af-packet': [ring] })}`;
}
