"""ResNet-RS in JAX: the parts that training, planning, conversion and prediction share."""
