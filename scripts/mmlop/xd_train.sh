#!/usr/bin/env bash
# Trains on all classes of ImageNet, 16 shots, for xd_test.sh and dg_test.sh.
source "$(dirname "$0")/_common.sh"
usage "DATASET SEED [KEY VALUE ...]
Trains MMLoP on all classes of DATASET (imagenet, or shapeworld with DATA=demo), 16 shots." "$@"
need 2 "$@"
run cross_dataset --only train --datasets "$1" --seeds "$2" "${@:3}"
