"""Compiles a configuration for TPUs that are not attached: memory and estimated time.

    python -m resnet_rs.plan --config=configs/resnet_rs.py:50@160 --topology=v3:2x2

See docs/plan.md.
"""
