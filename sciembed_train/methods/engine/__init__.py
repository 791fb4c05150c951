"""How a step is made: gradient cache, micro-batch size, sharding, throughput."""
