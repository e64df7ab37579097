"""Where examples come from: finding, preparing and ordering datasets, decoding their images."""
