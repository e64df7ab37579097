"""What every room uses and nothing of this project is used by: errors, rules, text files, platforms."""
