/** For bash 4 and newer, with or without the package bash-completion. */
import { joined, steps, type CompletedFlag, type Completion, type Values } from './completion.ts';

export function bashScript(completion: Completion): string {
  const { places, keys } = completion;
  return `# bash completion of dpi-agent: dpi-agent completion bash
_dpi_agent_files() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

_dpi_agent() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} place='' words='' i
  # "=" parts words.
  if [[ $cur == = ]]; then
    cur=
  elif [[ $prev == = ]]; then
    prev=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$place/\${COMP_WORDS[i]}" in
${steps(completion)
  .map(({ before, name }) => `      '${before}/${name}') place='${joined(before, name)}' ;;`)
  .join('\n')}
    esac
  done
  case "$place/$prev" in
${places.flatMap(({ path, flags }) => flags.flatMap((flag) => valueCase(path, flag))).join('\n')}
  esac
  case "$place" in
${places
  .map(({ path, commands, flags, takesConfig, arguments: values }) => {
    const names = commands.map(({ name }) => name);
    const dashed = flags.map(({ name }) => `--${name}`);
    const more = takesConfig ? `; [[ $cur == --?* ]] && words+=" $_dpi_agent_keys"` : '';
    return (
      `    '${path}')\n` +
      `      if [[ $cur == -* ]]; then words='${dashed.join(' ')}'${more}\n` +
      `      else ${argumentsOf(names, values)}\n      fi ;;`
    );
  })
  .join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

_dpi_agent_keys='${keys.map((key) => `--${key}`).join(' ')}'
complete -F _dpi_agent dpi-agent
`;
}

function valueCase(path: string, { name, alias, value }: CompletedFlag): string[] {
  if (value === undefined) return [];
  const patterns = [`'${path}/--${name}'`, ...(alias === undefined ? [] : [`'${path}/-${alias}'`])].join(' | ');
  return [`    ${patterns}) ${valueAction(value)}; return ;;`];
}

function valueAction(values: Values): string {
  if (values === 'files') return '_dpi_agent_files "$cur"';
  if (values === 'any') return 'COMPREPLY=()';
  return `mapfile -t COMPREPLY < <(compgen -W '${values.join(' ')}' -- "$cur")`;
}

function argumentsOf(commands: readonly string[], values: Values | undefined): string {
  if (values === 'files') return '_dpi_agent_files "$cur"; return';
  return `words='${[...commands, ...(Array.isArray(values) ? (values as string[]) : [])].join(' ')}'`;
}
