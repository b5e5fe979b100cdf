#!/usr/bin/env bash
# Evaluates the prompts of xd_train.sh on another data set.
source "$(dirname "$0")/_common.sh"
usage "DATASET SEED [KEY VALUE ...]
Evaluates the prompts of xd_train.sh on another data set, such as caltech101." "$@"
need 2 "$@"
run cross_dataset --only test --datasets "$1" --seeds "$2" "${@:3}"
