# shellcheck shell=bash
# What all scripts of this folder share; each sources it first and is not run by itself.
#
# DATA    folder of the data sets, or "demo" for the demo world (default: data)
# OUTPUT  folder of all runs (default: output/mmlop)
# PYTHON  default: python or, where there is none, that of .venv

set -euo pipefail

DATA="${DATA:-data}"
OUTPUT="${OUTPUT:-output/mmlop}"

# usage TEXT ARGUMENTS...: prints the text and ends if -h is among the arguments.
usage() {
  local text="$1" word
  shift
  for word in "$@"; do
    if [[ "$word" == -h || "$word" == --help ]]; then
      printf 'usage: bash scripts/mmlop/%s %s\n\n' "$(basename "$0")" "$text"
      printf 'Flags of python -m benchmark.run (--seeds 1, --jobs 4, --dry-run, --retry-failed) '
      printf 'come before\nthe KEY VALUE pairs, which go to every run. Finished runs are skipped, '
      printf 'interrupted ones resumed.\nEnvironment: DATA (%s), OUTPUT (%s).\n' "$DATA" "$OUTPUT"
      exit 0
    fi
  done
}

# need COUNT ARGUMENTS...: ends with a sentence if there are fewer.
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

# report WORDS...: tables and figures of what is in OUTPUT.
report() {
  module benchmark.report "$OUTPUT" "$@"
}

# run_then_report REPORT-FLAG NAMES PROTOCOL... WORDS...: runs, then reports, after failures too.
# What was interrupted or refused ends here, and so does what runs nothing: a dry run, or a launcher
# that submits jobs or prints a script.
run_then_report() {
  local flag="$1" names="$2" status=0
  shift 2
  run "$@" || status=$?
  if ((status > 1)) || [[ " $* " =~ \ --(dry-run|launcher[ =](slurm|print))\  ]]; then
    exit "$status"
  fi
  report "$flag" "$names"
  exit "$status"
}

# module NAME WORDS...: a module of this repository, called from anywhere.
module() {
  local here python
  here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
  python="${PYTHON:-python}"
  if [[ -z "${PYTHON:-}" ]] && ! command -v python > /dev/null; then
    python="$here/.venv/bin/python"
  fi
  if ! command -v "$python" > /dev/null; then
    echo "$(basename "$0"): $python is not there: run make install, or set PYTHON." >&2
    exit 2
  fi
  PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" "$python" -m "$@"
}
