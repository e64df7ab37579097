"""What several tests share: data, weights, processes, references."""
