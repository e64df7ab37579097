"""The hosts of a run: they connect, meet at barriers, compare their facts and end together."""
