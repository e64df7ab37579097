"""Errors, rules of values, text files and platforms: the parts that know nothing of networks."""
