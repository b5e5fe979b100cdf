#!/usr/bin/env bash
# Base-to-new with MMLoP on the demo world, as a first try of these scripts.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Base-to-new with MMLoP on the demo world, one seed; then its table." "$@"
DATA=demo
run_then_report --protocol base2new base2new --seeds 1 "$@"
