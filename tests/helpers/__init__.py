"""The parts that several tests share: data, weights, processes, references."""
