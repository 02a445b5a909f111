"""Facts of models: layers, weights and caches, read from a config.json."""
