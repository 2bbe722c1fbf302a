"""A seeded campaign of faults against real controllers, real SSH servers and real agents."""
