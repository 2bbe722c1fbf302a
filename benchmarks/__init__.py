"""How true and how fast fleetmark is: `make bench` writes RESULTS.md."""
