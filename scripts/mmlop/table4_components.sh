#!/usr/bin/env bash
# Tables 4 and 8 of the paper.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Tables 4 and 8: IVLP, + low rank, + consistency, + drift correction, + shared up-projection; then
their tables. The last row is the run of table 1." "$@"
run_then_report --protocol components components "$@"
