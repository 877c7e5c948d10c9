/** For zsh, as a file of $fpath or by `source`. */
import { joined, steps, type CompletedFlag, type Completion, type Place, type Values } from './completion.ts';

export function zshScript(completion: Completion): string {
  const { places, keys } = completion;
  return `#compdef dpi-agent
# zsh completion of dpi-agent: dpi-agent completion zsh
_dpi_agent() {
  local place= takes_config= files= i
  local -a commands flags
  for ((i = 2; i < CURRENT; i++)); do
    case "$place/\${words[i]}" in
${steps(completion)
  .map(({ before, name }) => `      '${before}/${name}') place='${joined(before, name)}' ;;`)
  .join('\n')}
    esac
  done
  case "$place/\${words[CURRENT - 1]}" in
${places.flatMap(({ path, flags }) => flags.flatMap((flag) => valueCase(path, flag))).join('\n')}
  esac
  case "$place" in
${places.map(placeCase).join('\n')}
  esac
  if [[ $PREFIX == --?* && -n $takes_config ]]; then
    flags+=(${keys.map((key) => `'--${key}'`).join(' ')})
  fi
  if [[ $PREFIX == -* ]]; then
    _describe -o 'flag' flags
  elif ((\${#commands})); then
    _describe 'command' commands
  elif [[ -n $files ]]; then
    _files
  fi
}

if [ "$funcstack[1]" = "_dpi_agent" ]; then
  _dpi_agent "$@"
else
  compdef _dpi_agent dpi-agent
fi
`;
}

function valueCase(path: string, { name, alias, value }: CompletedFlag): string[] {
  if (value === undefined) return [];
  const patterns = [`'${path}/--${name}'`, ...(alias === undefined ? [] : [`'${path}/-${alias}'`])].join(' | ');
  return [`    ${patterns}) ${valueAction(value)}; return ;;`];
}

function valueAction(values: Values): string {
  if (values === 'files') return '_files';
  return values === 'any' ? "_message 'value'" : `compadd -- ${values.join(' ')}`;
}

function placeCase({ path, commands, flags, takesConfig, arguments: values }: Place): string {
  const described = [
    ...commands.map(({ name, text }) => `'${name}:${text}'`),
    ...(Array.isArray(values) ? (values as string[]).map((value) => `'${value}'`) : []),
  ];
  return [
    `    '${path}')`,
    `      commands=(${described.join(' ')})`,
    `      flags=(${flags.map(({ name, text }) => `'--${name}:${text}'`).join(' ')})`,
    `      takes_config='${takesConfig ? 'yes' : ''}' files='${values === 'files' ? 'yes' : ''}' ;;`,
  ].join('\n');
}
