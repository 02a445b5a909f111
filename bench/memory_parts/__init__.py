"""Parts of the benchmark of the memory ledger."""
