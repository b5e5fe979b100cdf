#!/usr/bin/env bash
# Trains on the base classes of a data set, 16 shots, and evaluates on them.
source "$(dirname "$0")/_common.sh"
usage "DATASET SEED [KEY VALUE ...]
Trains MMLoP on the base classes, 16 shots, and evaluates on them: bash base2new_train.sh dtd 1" "$@"
need 2 "$@"
run base2new --only train --datasets "$1" --seeds "$2" "${@:3}"
