#!/usr/bin/env bash
# Evaluates the prompts of base2new_train.sh on the new classes.
source "$(dirname "$0")/_common.sh"
usage "DATASET SEED [KEY VALUE ...]
Evaluates the prompts of base2new_train.sh on the new classes, with the same KEY VALUE pairs." "$@"
need 2 "$@"
run base2new --only test --datasets "$1" --seeds "$2" "${@:3}"
