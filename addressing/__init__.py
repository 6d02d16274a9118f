"""The address plan: pure functions from a county and the plan before to the plan after."""
