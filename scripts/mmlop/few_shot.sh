#!/usr/bin/env bash
# Few-shot classification of one data set, three seeds.
source "$(dirname "$0")/_common.sh"
usage "DATASET SHOTS [KEY VALUE ...]
Trains and evaluates MMLoP on all classes with 1, 2, 4, 8 or 16 shots, three seeds." "$@"
need 2 "$@"
run few_shot --datasets "$1" --shots "$2" "${@:3}"
