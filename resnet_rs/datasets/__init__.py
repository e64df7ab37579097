"""Datasets: finding and preparing them, ordering their examples, decoding their images."""
