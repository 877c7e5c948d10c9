/**
 * Whether the agent inspects, by component, and why not; and whether it lives.
 *
 * Not ready is what keeps packets of all endpoints of a lane from being inspected, or their alerts from being kept.
 * What waits for others, an interface that is not there yet or a sink that does not answer, is said too, and changes
 * nothing.
 */
import type { SinkStatus } from '../ship/sink.ts';
import type { CanaryStatus } from './canary.ts';

export interface Component {
  component: 'agent' | 'engine' | 'capture' | 'canary' | 'journal' | 'state' | 'endpoints' | 'sink';
  /** Of the lane or the sink. */
  name?: string;
  ready: boolean;
  /** Not ready, but no reason to call the agent so. */
  informational?: true;
  reason?: string;
}

export interface Readiness {
  ready: boolean;
  components: Component[];
}

/** What is asked of a running agent. */
export interface Inspector {
  /** Why alerts are not found or kept: by lane for an engine, `capture/<lane>`, `canary/<lane>`, `journal`, `state`. */
  problemsByPart(): ReadonlyMap<string, string>;
  lanes(): { lane: string; engine: { since?: number }; capture: { pid?: number }; canary: CanaryStatus }[];
  endpoints(): { state: { is: string } }[];
  sinks(): Pick<SinkStatus, 'name' | 'circuit' | 'lastError'>[];
}

/** @param agent The agent, or what its start waits for. */
export function readinessOf(agent: Inspector | string): Readiness {
  if (typeof agent === 'string') {
    return { ready: false, components: [{ component: 'agent', ready: false, reason: agent }] };
  }
  const problems = new Map(agent.problemsByPart());
  const component = (what: Component['component'], problem: string | undefined, name?: string): Component => ({
    component: what,
    ...(name === undefined ? {} : { name }),
    ready: problem === undefined,
    ...(problem === undefined ? {} : { reason: problem }),
  });
  const takeProblem = (part: string): string | undefined => {
    const problem = problems.get(part);
    problems.delete(part);
    return problem;
  };
  const components: Component[] = [];
  for (const { lane, engine, capture, canary } of agent.lanes()) {
    const down = engine.since === undefined ? 'the engine does not read packets yet' : undefined;
    const died = capture.pid === undefined ? 'the capture process starts again' : undefined;
    const missing = canary.is === 'missing' ? 'no canary comes back' : undefined;
    components.push(
      component('engine', takeProblem(lane) ?? down, lane),
      component('capture', takeProblem(`capture/${lane}`) ?? died, lane),
      component('canary', takeProblem(`canary/${lane}`) ?? missing, lane),
    );
  }
  components.push(component('journal', takeProblem('journal')), component('state', takeProblem('state')));
  for (const [part, reason] of problems) components.push(component('agent', reason, part));
  const waiting = agent.endpoints().filter(({ state }) => state.is === 'waiting').length;
  components.push({
    ...component('endpoints', waiting === 0 ? undefined : `${waiting} not captured, for want of their interface`),
    informational: true,
  });
  for (const { name, circuit, lastError } of agent.sinks()) {
    const reason = circuit === 'open' ? (lastError ?? 'nothing goes through') : undefined;
    components.push({ ...component('sink', reason, name), informational: true });
  }
  return { ready: components.every(({ ready, informational }) => ready || informational === true), components };
}
