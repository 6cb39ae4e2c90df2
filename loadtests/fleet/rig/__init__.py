"""Real gateways as a fleet on one machine: namespaces as hosts, a real store, and what watches their answers."""
