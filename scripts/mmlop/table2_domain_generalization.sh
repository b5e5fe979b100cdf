#!/usr/bin/env bash
# Table 2 of the paper.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Table 2: ImageNet to its four variants, three seeds; then its table." "$@"
run_then_report --protocol domain_generalization domain_generalization "$@"
