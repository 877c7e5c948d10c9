/** For fish 3 and newer. */
import { joined, steps, type CompletedFlag, type Completion, type Place } from './completion.ts';

export function fishScript(completion: Completion): string {
  const { places, keys } = completion;
  const configured = places.filter(({ takesConfig }) => takesConfig).map(({ path }) => `'${path}'`);
  return `# fish completion of dpi-agent: dpi-agent completion fish
function __dpi_agent_place
    set -l place ''
    for word in (commandline -opc)[2..]
        switch "$place/$word"
${steps(completion)
  .map(
    ({ before, name }) => `            case '${before}/${name}'\n                set place '${joined(before, name)}'`,
  )
  .join('\n')}
        end
    end
    echo $place
end

function __dpi_agent_at
    contains -- (__dpi_agent_place) $argv
end

complete -c dpi-agent -f
${places.flatMap(linesOf).join('\n')}
${keys.map((key) => `complete -c dpi-agent -n "__dpi_agent_at ${configured.join(' ')}" -l '${key}' -r`).join('\n')}
`;
}

function linesOf({ path, commands, flags, arguments: values }: Place): string[] {
  const at = `complete -c dpi-agent -n "__dpi_agent_at '${path}'"`;
  return [
    ...commands.map(({ name, text }) => `${at} -a '${name}' -d '${text}'`),
    ...flags.map((flag) => `${at} ${flagText(flag)}`),
    ...(values === 'files' ? [`${at} -F`] : []),
    ...(Array.isArray(values) ? [`${at} -a '${values.join(' ')}'`] : []),
  ];
}

function flagText({ name, alias, text, value }: CompletedFlag): string {
  const names = `${alias === undefined ? '' : `-s ${alias} `}-l '${name}' -d '${text}'`;
  if (value === undefined) return names;
  if (value === 'files') return `${names} -r -F`;
  return value === 'any' ? `${names} -x` : `${names} -x -a '${value.join(' ')}'`;
}
