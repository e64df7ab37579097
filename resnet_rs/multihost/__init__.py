"""The hosts of one run: connecting, meeting, agreeing, and ending together."""
