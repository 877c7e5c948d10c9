/**
 * What the agent asks of an inspection engine. Snort 3 and Suricata stand behind it.
 *
 * An engine runs as a sequence of generations: each is one child process with one FIFO to read packets from and one
 * folder of output. A crash, or a change that the engine can't take while running, ends a generation and starts the
 * next.
 */
import type { VariableValues } from '../rule-variables.ts';
import type { Decoder } from './alert.ts';
import type { CounterSource } from './counters.ts';
import type { Rotation } from './rotate.ts';

export type EngineName = 'snort' | 'suricata';

/** An engine found on this machine. */
export interface EngineInstall {
  name: EngineName;
  /** Absolute path of the executable. */
  binary: string;
  /** As the engine prints it: "3.12.2.0", "7.0.10". */
  version: string;
  /** Snort: pattern matchers built in that are faster than the default, best first ("hyperscan"). */
  searchMethods: string[];
}

/** What differs between one generation's command lines and files, and the next. */
export interface GenerationInput {
  /** `live`: alerts at once, packet by packet. `replay`: throughput first, the input ends. */
  mode: 'live' | 'replay';
  /** Size of a replay's input, where known: a pattern matcher that is slow to start pays off only on a large one. */
  expectedBytes?: number;
  /** What the engine reads: a FIFO of pcap records, or in a replay the capture file itself. */
  fifo: string;
  /** Folder for the engine's configuration, written by the agent, read by the engine. */
  configDirectory: string;
  /** Folder that the engine may write to. */
  outputDirectory: string;
  /** Folder where the engine may keep what it compiled of the rules' patterns; none in a replay, which loads them once. */
  patternsDirectory?: string;
  /** Folder within the configuration's, where this state of the rules is; a later one has another. */
  rulesDirectory: string;
  /** Rule files, in the engine's own syntax, for all VLAN ids that no policy names. */
  ruleFiles: string[];
  policies: PolicyInput[];
  /** What rules name, as far as it is set. */
  variables?: VariableValues;
  /** Folder of the reputations that rules ask for. */
  reputationDirectory?: string;
  /** The operator's overrides, a copy that the engine can read, and what it says. */
  overridesFile?: string;
  overrides?: string;
  /** The rule that fires on the agent's own frames, a file too; none in a replay. */
  canaryFile?: string;
  /** Format of the alerts; Suricata knows only `json`. */
  output: 'json' | 'unified2';
}

/** Rules for some VLAN ids in place of the others. */
export interface PolicyInput {
  /** From 2. */
  id: number;
  vlans: readonly number[];
  ruleFiles: string[];
}

/** A command to run, and how its alerts come out. */
export interface EngineCommand {
  arguments: string[];
  /** Alert file's base name in the output folder; rotated files carry it as a prefix with `.<number>`. */
  alertFile: string;
  /** Whether the name in use carries a time stamp too, as unified2 does: then the newest is the live one. */
  stamped: boolean;
  createDecoder: () => Decoder;
  /** What it counts while it runs; absent where it was not asked to. */
  counters?: CounterSource;
  /** Absent where the engine rotates the alert file itself, or its input ends. */
  rotation?: Rotation;
}

export interface EngineDriver {
  name: EngineName;
  /** Writes the generation's configuration and says how to run it. */
  prepare(install: EngineInstall, input: GenerationInput): Promise<EngineCommand>;
  /**
   * Makes a process that runs go on with another state of its rules, without losing a packet. Resolves when it was
   * told, or has done so: whether it did, only the canary tells. Packets must come meanwhile. @throws Error when it
   * can't, or refuses.
   * @param before What it was started or last reloaded with.
   */
  reload(
    install: EngineInstall,
    before: GenerationInput,
    input: GenerationInput,
    kill: (signal: NodeJS.Signals) => void,
  ): Promise<void>;
  /** Arguments that only load the configuration and the rules, and exit. */
  validateArguments(install: EngineInstall, input: GenerationInput): Promise<string[]>;
  /** Makes errors of the engine's log readable: rule file, line, reason. At most `limit` of them. */
  ruleErrors(log: string, limit: number): RuleError[];
  /**
   * Rules that it passed over without an error, because of what they require. Absent where an engine has no such. At
   * most `limit`.
   */
  skippedRules?(log: string, limit: number): RuleError[];
  /** What else it has to say against rules that it takes. At most `limit`. */
  ruleWarnings?(log: string, limit: number): string[];
  /** Packets that the engine counted as analysed, from the summary it prints at its end. */
  analysedPackets(log: string): number | undefined;
}

export interface RuleError {
  file?: string;
  /** From 1. */
  line?: number;
  sid?: number;
  reason: string;
  /** It may only follow from an error in the rule before, behind which the engine lost its way. */
  follows?: true;
}
