"""The tables of a protocol, of the kind that its YAML names."""

from benchmark.cells import Table
from benchmark.results import Collected
from benchmark.table_base2new import base2new_tables
from benchmark.table_few_shot import few_shot_tables
from benchmark.table_transfer import transfer_tables

BUILDERS = {
    "base2new": base2new_tables,
    "transfer": transfer_tables,
    "few_shot": few_shot_tables,
}


def tables(found: Collected) -> list[Table]:
    """All tables of a protocol, the averages first."""
    return BUILDERS[found.protocol.table](found)
