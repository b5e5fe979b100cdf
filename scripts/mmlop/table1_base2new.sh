#!/usr/bin/env bash
# Table 1 of the paper.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Table 1: base-to-new on 11 data sets, three seeds; then its table." "$@"
run_then_report --protocol base2new base2new "$@"
