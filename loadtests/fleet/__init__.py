"""The fleet's protocol, simulated with faults of every kind and checked exhaustively for few hosts."""
