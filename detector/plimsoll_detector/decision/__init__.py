"""From an observation to a number of replicas: pure functions over frozen data, with the time as an argument."""
