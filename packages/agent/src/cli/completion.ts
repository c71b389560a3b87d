// `flotilla completion bash|zsh|fish`: scripts made from the commands themselves, so that they cannot fall behind them.
//
// They are static: pressing Tab starts no program and evaluates nothing that was typed. The words before the cursor that are commands say
// where one stands; a word that follows an option with a value is that value.

import type { Command, Option } from 'commander';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

type ValueKind = 'none' | 'any' | 'file' | 'folder' | 'choice';

interface Flag {
  /** `--json` */
  readonly long: string;
  readonly short: string | undefined;
  readonly description: string;
  readonly value: ValueKind;
  readonly choices: readonly string[];
}

/** A command with all before it: `rollout list`; '' is the program itself. */
interface Place {
  readonly path: string;
  readonly commands: readonly { readonly name: string; readonly description: string }[];
  readonly flags: readonly Flag[];
  readonly choices: readonly string[];
}

/** The script for a shell. */
export function completionScript(shell: Shell, program: Command): string {
  const places = placesOf(program, '');
  const name = program.name();
  switch (shell) {
    case 'bash':
      return bashScript(name, places);
    case 'zsh':
      return zshScript(name, places);
    case 'fish':
      return fishScript(name, places);
  }
}

function placesOf(command: Command, path: string): Place[] {
  const help = command.createHelp();
  const subcommands = help.visibleCommands(command);
  const here: Place = {
    path,
    commands: subcommands.map((each) => ({ name: each.name(), description: firstSentence(each.description()) })),
    flags: help.visibleOptions(command).map(flagOf),
    choices: command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
  };
  // `help` takes names of commands and has no options of its own.
  return [here, ...subcommands.filter((each) => each.name() !== 'help').flatMap((each) => placesOf(each, `${path} ${each.name()}`.trim()))];
}

function flagOf(option: Option): Flag {
  const choices = option.argChoices ?? [];
  const takesValue = option.required || option.optional;
  const placeholder = /<(\w+)/.exec(option.flags)?.[1];
  const value = !takesValue ? 'none' : choices.length > 0 ? 'choice' : placeholder === 'FILE' ? 'file' : placeholder === 'DIR' ? 'folder' : 'any';
  return { long: option.long ?? '', short: option.short, description: firstSentence(option.description), value, choices };
}

/** Without what stands in parentheses. */
function firstSentence(text: string): string {
  return text.replaceAll(/ \([^)]*\)/g, '').split(/; |\. /)[0] ?? '';
}

// ---------------------------------------------------------------- bash

function bashScript(name: string, places: readonly Place[]): string {
  const fn = `_${name}`;
  return `# bash completion of ${name}. Put it into ~/.local/share/bash-completion/completions/${name}, or: source <(${name} completion bash)

${fn}() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" place='' words='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$place \${COMP_WORDS[i]}" in
      ${commandPatterns(places)}) place="\${place:+$place }\${COMP_WORDS[i]}" ;;
    esac
  done
  COMPREPLY=()
  case "$place $prev" in
${valueCases(places, (flag) => bashValue(flag))}  esac
  case "$place" in
${places.map((place) => `    ${quoted(place.path)}) words=${quoted(wordsOf(place).join(' '))} ;;`).join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F ${fn} ${name}
`;
}

function bashValue({ value, choices }: Flag): string {
  switch (value) {
    case 'file':
      return 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return';
    case 'folder':
      return 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return';
    case 'choice':
      return `mapfile -t COMPREPLY < <(compgen -W ${quoted(choices.join(' '))} -- "$cur"); return`;
    case 'any':
    case 'none':
      return 'return';
  }
}

/** Everything that may follow where no value is due. */
function wordsOf({ commands, flags, choices }: Place): string[] {
  return [...commands.map((command) => command.name), ...choices, ...flags.map((flag) => flag.long)];
}

// ---------------------------------------------------------------- zsh

function zshScript(name: string, places: readonly Place[]): string {
  const fn = `_${name}`;
  return `#compdef ${name}
# zsh completion of ${name}. Put it as ${fn} into a folder of $fpath, or: source <(${name} completion zsh)

${fn}() {
  local place='' i
  local -a described
  for ((i = 2; i < CURRENT; i++)); do
    case "$place $words[i]" in
      ${commandPatterns(places)}) place="\${place:+$place }$words[i]" ;;
    esac
  done
  case "$place $words[CURRENT-1]" in
${valueCases(places, (flag) => zshValue(flag))}  esac
  case "$place" in
${places.map((place) => `    ${quoted(place.path)}) described=(${describedWords(place)}) ;;`).join('\n')}
  esac
  _describe -V ${quoted(name)} described
}

if [ "$funcstack[1]" = ${quoted(fn)} ]; then ${fn} "$@"; else compdef ${fn} ${name}; fi
`;
}

function zshValue({ value, choices }: Flag): string {
  switch (value) {
    case 'file':
      return '_files; return';
    case 'folder':
      return '_files -/; return';
    case 'choice':
      return `described=(${choices.map(quoted).join(' ')}); _describe value described; return`;
    case 'any':
    case 'none':
      return '_message value; return';
  }
}

function describedWords({ commands, flags, choices }: Place): string {
  const all = [...commands, ...choices.map((choice) => ({ name: choice, description: '' })), ...flags.map(({ long, description }) => ({ name: long, description }))];
  return all.map((word) => quoted(word.description === '' ? word.name : `${word.name}:${word.description}`)).join(' ');
}

// ---------------------------------------------------------------- fish

function fishScript(name: string, places: readonly Place[]): string {
  const fn = `__${name}_place`;
  const lines = places.flatMap((place) => {
    const condition = `-n ${quoted(`${fn} ${place.path}`.trim())}`;
    return [
      ...place.commands.map((command) => `complete -c ${name} ${condition} -a ${command.name} -d ${fishQuoted(command.description)}`),
      ...place.choices.map((choice) => `complete -c ${name} ${condition} -a ${choice}`),
      ...place.flags.map((flag) => `complete -c ${name} ${condition} ${fishFlag(flag)} -d ${fishQuoted(flag.description)}`),
    ];
  });
  return `# fish completion of ${name}. Put it into ~/.config/fish/completions/${name}.fish, or: ${name} completion fish | source

# Whether the commands typed so far are the arguments.
function ${fn}
    set -l place
    for word in (commandline -opc)[2..]
        switch "$place $word"
            case ${fishPatterns(places)}
                set -a place $word
        end
    end
    test "$place" = "$argv"
end

complete -c ${name} -f
${lines.join('\n')}
`;
}

function fishFlag({ long, short, value, choices }: Flag): string {
  const names = [`-l ${long.slice(2)}`, ...(short === undefined ? [] : [`-s ${short.slice(1)}`])].join(' ');
  switch (value) {
    case 'none':
      return names;
    case 'any':
      return `${names} -x`;
    case 'choice':
      return `${names} -x -a ${quoted(choices.join(' '))}`;
    case 'file':
      return `${names} -r -F`;
    case 'folder':
      return `${names} -x -a '(__fish_complete_directories)'`;
  }
}

function fishPatterns(places: readonly Place[]): string {
  return placesBelow(places).map(({ path, word }) => quoted(`${path} ${word}`)).join(' ');
}

function fishQuoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

// ---------------------------------------------------------------- all

/** `PLACE WORD` where the word leads on from the place. */
function commandPatterns(places: readonly Place[]): string {
  return placesBelow(places).map(({ path, word }) => quoted(`${path} ${word}`)).join('|');
}

function placesBelow(places: readonly Place[]): { path: string; word: string }[] {
  return places.filter(({ path }) => path !== '').map(({ path }) => {
    const words = path.split(' ');
    return { path: words.slice(0, -1).join(' '), word: words.at(-1) ?? '' };
  });
}

/** A branch for each option that is followed by a value; those of the same name and kind share one. */
function valueCases(places: readonly Place[], act: (flag: Flag) => string): string {
  const patterns = new Map<string, string[]>();
  for (const { path, flags } of places) {
    for (const flag of flags.filter(({ value }) => value !== 'none')) {
      for (const word of [flag.long, ...(flag.short === undefined ? [] : [flag.short])]) {
        const action = act(flag);
        patterns.set(action, [...(patterns.get(action) ?? []), quoted(`${path} ${word}`)]);
      }
    }
  }
  return [...patterns].map(([action, all]) => `    ${all.join('|')}) ${action} ;;\n`).join('');
}

/** One word of a POSIX-like shell, whatever is in it. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
