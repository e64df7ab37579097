"""Export of trained networks to formats that other programs run (docs/export.md)."""
