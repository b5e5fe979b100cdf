#!/usr/bin/env bash
# Evaluates the prompts of xd_train.sh on a variant of ImageNet.
source "$(dirname "$0")/_common.sh"
usage "DATASET SEED [KEY VALUE ...]
Evaluates the prompts of xd_train.sh on imagenetv2, imagenet_sketch, imagenet_a or imagenet_r." "$@"
need 2 "$@"
run domain_generalization --only test --datasets "$1" --seeds "$2" "${@:3}"
