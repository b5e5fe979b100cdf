# shellcheck shell=bash
# What all scripts of this folder share; each sources it first and is not run by itself.
#
# DATA    folder of the data sets, or "demo" for the demo world (default: data)
# OUTPUT  folder of all runs (default: output/mmlop)

set -euo pipefail

DATA="${DATA:-data}"
OUTPUT="${OUTPUT:-output/mmlop}"

# usage TEXT ARGUMENTS...: prints the text and ends where -h is among the arguments.
usage() {
  local text="$1" word
  shift
  for word in "$@"; do
    if [[ "$word" == -h || "$word" == --help ]]; then
      printf 'usage: bash scripts/mmlop/%s %s\n\n' "$(basename "$0")" "$text"
      printf 'KEY VALUE pairs at the end go to every run. Environment: DATA (%s), ' "$DATA"
      printf 'OUTPUT (%s).\nTables: python -m benchmark.report OUTPUT\n' "$OUTPUT"
      exit 0
    fi
  done
}

# need COUNT ARGUMENTS...: ends with a sentence where there are fewer.
need() {
  local count="$1"
  shift
  if (($# < count)); then
    echo "$(basename "$0"): expected $count arguments, got $#; -h explains." >&2
    exit 2
  fi
}

# run PROTOCOL... WORDS...: the runner of protocols.
run() {
  module benchmark.run --root "$DATA" --output "$OUTPUT" "$@"
}

# report WORDS...: tables of what is in OUTPUT.
report() {
  module benchmark.report "$OUTPUT" "$@"
}

# module NAME WORDS...: a module of this repository, called from anywhere.
module() {
  local here
  here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
  PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" "${PYTHON:-python}" -m "$@"
}
