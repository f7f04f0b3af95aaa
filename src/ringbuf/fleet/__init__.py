"""Many machines: one clock, traces gathered from all, sets of them; whatever engine runs them."""
